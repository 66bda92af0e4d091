"""Messages that come at minutes of one day, without a database."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.message import Message
from tocsin_ingest.domain.silences import Window
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_kit.ids import new_id

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SILENCE = UUID(int=1)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


class Played:
    """A snapshot whose clock moves, with a silence from minute 20 to 30 for messages that name it."""

    def __init__(self) -> None:
        self.made = Snapshot(new_id)

    def at(self, minute: float, *sent: Message) -> list[Outcome]:
        self.made.put_windows({SILENCE: Window(1, at(20), at(30))}, at(minute))
        return [decision.outcome for decision, _ in self.made.apply_with_repeats(sent)]

    def open(self) -> list[int]:
        """How many alerts fire in each open incident, the oldest first."""
        return [each.firing_count for each in self.made.incidents.values() if each.open]
