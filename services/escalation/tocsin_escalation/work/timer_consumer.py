"""Gathers timers that are due at the same moment, so that a thousand of them are a few transactions and not a thousand."""

from uuid import UUID

from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database

from tocsin_escalation.app.effects import Effects
from tocsin_escalation.app.fire_timers import Fired, fire_timers
from tocsin_escalation.domain.events import TimerFired

MOST_PER_TRANSACTION = 200


class TimerConsumer:
    """A lone timer never waits; those that arrive while it is being committed are the next batch."""

    def __init__(self, db: Database, effects: Effects) -> None:
        self._db = db
        self._effects = effects
        self._batches: Batches[Fired, bool] = Batches(self._fire, most=MOST_PER_TRANSACTION)

    async def fire(self, incident_id: UUID, event: TimerFired) -> None:
        """Returns once it is committed. Raises TocsinError while the database is away, and when it was OVERLOADED."""
        if not await self._batches.submit((incident_id, event)):
            # Its incident is locked elsewhere: this one waits for its turn, and nothing waits for it.
            await fire_timers(self._db, self._effects, [(incident_id, event)], wait=True)

    async def _fire(self, timers: list[Fired]) -> list[bool]:
        """Whether each was fired, or left alone because its incident is locked."""
        held = {incident_id for incident_id, _ in await fire_timers(self._db, self._effects, timers)}
        return [incident_id not in held for incident_id, _ in timers]
