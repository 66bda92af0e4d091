"""Why a person was or was not paged: collects the data for the explanation."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.computing import Computations, compute, in_transaction
from tocsin_escalation.app.foresight import foresee
from tocsin_escalation.app.foresight.foresee import People
from tocsin_escalation.app.people.reach import Reaching
from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.domain.explain import STARTS, explain
from tocsin_escalation.domain.explanation import Away, Case, Contact, Explanation, Happened
from tocsin_escalation.domain.policy import TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Segment
from tocsin_escalation.domain.schedules.questions import standing, users_of
from tocsin_escalation.domain.simulate import HORIZON
from tocsin_escalation.store.incidents import escalations, timeline
from tocsin_escalation.store.incidents.timeline import Entry
from tocsin_escalation.store.people import directory
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules import absences
from tocsin_escalation.store.schedules.absences import AbsenceRow

_log = get_logger(__name__)

MOST_ENTRIES: Final = 5000
_MOST_ABSENCES: Final = 200
_MOST_LOOKED_UP: Final = 200
"""The newest entries, for whose times it is looked up who was on call."""


class Describing(Reaching, Protocol):
    """Notify, for explanations."""

    async def describe(self, org_id: str, incident_id: UUID, user: str) -> Contact:
        """What notify knows of one user's pages of one incident. Raises TocsinError when it does not answer."""


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation. `truncated`: the timeline is longer than the part that was read."""

    explanation: Explanation
    deliveries_known: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What one transaction found."""

    run: Escalation
    now: datetime
    entries: Sequence[Entry]
    person: UserRow | None
    away: Sequence[AbsenceRow]
    there: People


async def explain_page(
    db: Database, notify: Describing, org_id: str, incident_id: UUID, user: str, *, deliveries: bool
) -> Explained:
    """Why this user was or was not paged. Raises INCIDENT_NOT_FOUND. `deliveries`: whether notify is asked as well."""
    found = await in_transaction(db, org_id, partial(_look_up, incident_id=incident_id, user=user))
    run, entries, there = found.run, found.entries, found.there
    foreseen = await foresee.play_on(notify, run, found.now, there)
    contact = await _contact(notify, org_id, incident_id, user) if deliveries else None
    happened = tuple(map(_happened, entries[:MOST_ENTRIES]))
    case = Case(
        run=run,
        user=user,
        known=found.person is not None,
        disabled=found.person is not None and found.person.disabled,
        happened=happened,
        members=there.base.teams or {},
        line_ups={id: frozenset(users_of(schedule)) for id, schedule in there.schedules.items()},
        segments=await compute(org_id, _segments, run, happened, there),
        absences=tuple(Away(each.id, each.start_time, each.end_time, each.reason) for each in found.away),
        plan=foreseen.plan,
        contact=contact,
    )
    return Explained(explain(case), contact is not None, len(entries) > MOST_ENTRIES)


async def _look_up(tx: Tx, computations: Computations, *, incident_id: UUID, user: str) -> _Found:
    row = await escalations.get(tx, incident_id)
    if row is None:
        raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{incident_id}")
    now = await tx.now()
    entries = await timeline.page(tx, incident_id, 0, MOST_ENTRIES + 1)
    began = min((entry.create_time for entry in entries), default=now)
    person = await directory.get_user(tx, user)
    away = await absences.TABLE.page(tx, user, began, None, _MOST_ABSENCES)
    used = [row.run.policy] if row.run.policy else []
    there = await foresee.people(tx, used, began, now + HORIZON, computations)
    return _Found(row.run, now, entries, person, away, there)


async def _contact(notify: Describing, org_id: str, incident_id: UUID, user: str) -> Contact | None:
    try:
        return await notify.describe(org_id, incident_id, user)
    except TocsinError as error:
        _log.warning("deliveries_unknown", org_id=org_id, incident=str(incident_id), error=error.message)
        return None


def _happened(entry: Entry) -> Happened:
    return Happened(
        id=entry.id,
        time=entry.create_time,
        kind=NoteKind(entry.kind),
        message=entry.message,
        level=entry.level,
        repeat=entry.repeat,
        generation=entry.generation,
        paged_users=entry.paged_users,
        pages=entry.pages,
    )


def _segments(run: Escalation, happened: Sequence[Happened], there: People) -> dict[tuple[str, int], Segment]:
    """Who was on call in the schedules of a level when it began."""
    levels = run.policy.levels if run.policy else ()
    found: dict[tuple[str, int], Segment] = {}
    for entry in [entry for entry in happened if entry.kind in STARTS][-_MOST_LOOKED_UP:]:
        for target in levels[entry.level - 1].targets if 0 < entry.level <= len(levels) else ():
            schedule = there.schedules.get(target.id) if target.kind is TargetKind.SCHEDULE else None
            if schedule is not None:
                found[target.id, entry.id] = standing(schedule, minute_of(entry.time)).segment
    return found
