"""Who gets a message to a team or to those who are on call in a schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tocsin_kit.db.pool import Database

from tocsin_escalation.domain.policy import Directory, Target
from tocsin_escalation.store.people import directory


@dataclass(frozen=True, slots=True)
class Receivers:
    """The users behind one target who are not disabled."""

    exists: bool
    users: tuple[str, ...]


async def resolve(db: Database, org_id: str, targets: Sequence[Target], time: datetime) -> list[Receivers]:
    """One per target. Schedules tell who is on call in the minute of `time`."""
    async with db.transaction(org_id) as tx:
        unknown = set(await directory.unknown(tx, targets))
        people = (await directory.load(tx, [(org_id, target) for target in targets], time=time)).get(
            org_id, Directory()
        )
    return [Receivers(target not in unknown, people.resolve([target])) for target in targets]
