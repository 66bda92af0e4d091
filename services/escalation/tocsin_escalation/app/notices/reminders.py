"""Reminders: made, moved, stopped, and sent when they are due.

The rows are the record, and a sweep finds due ones within its interval. A reminder is sent as pages are: as an outbox row of the
same transaction, with the incident's generation. So a stop of an incident's pages also stops reminders that are being sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.notify.v1 import notification_pb2
from tocsin.type.v1.severity_pb2 import SEVERITY_INFO
from tocsin_kit.budgets import Budgets
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.incidents.advance import SURE_WAY_SECONDS
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.jobs import PAGE
from tocsin_escalation.app.people import targets
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.reminders import ReminderState, Rhythm, Verdict, judge, page_id, why_over
from tocsin_escalation.store.notices import reminders
from tocsin_escalation.store.notices.reminders import NewReminder, RemindedIncident, ReminderRow
from tocsin_escalation.store.people import directory

_log = get_logger(__name__)

BATCH: Final = 500
_NOBODY: Final = RemindedIncident(UUID(int=0), "", State.RESOLVED, 0, "", "", 0, "", "")
"""An incident that was deleted needs no reminder."""


@dataclass(frozen=True, slots=True)
class ReminderInput:
    """The reminder that a caller asks for. `incident_id` None: it has its own text and no incident. `whom`: a user or a team."""

    incident_id: UUID | None
    whom: Target
    text: str
    rhythm: Rhythm
    delay: timedelta


async def create(tx: Tx, wanted: ReminderInput, creator: str, budgets: Budgets) -> ReminderRow:
    """A new one. Raises INCIDENT_NOT_FOUND, INCIDENT_RESOLVED, INCIDENT_STATE, USER_NOT_FOUND, TEAM_NOT_FOUND, LIMIT_REACHED."""
    if wanted.incident_id is not None:
        await _require_use(tx, wanted.incident_id, wanted)
    of_user = wanted.whom.kind is TargetKind.USER
    await targets.check(tx, [("reminder.user" if of_user else "reminder.team", wanted.whom)])
    await require_room(tx, "reminders", budgets, where="state = 'scheduled'")
    due = await tx.now() + wanted.delay
    user, team = (wanted.whom.id, None) if of_user else ("", wanted.whom.id)
    return await reminders.insert(
        tx, NewReminder(new_id(), wanted.incident_id, user, team, wanted.text, wanted.rhythm, due, creator)
    )


async def _require_use(tx: Tx, incident_id: UUID, wanted: ReminderInput) -> None:
    """A reminder that would end at once is refused."""
    found = await reminders.standings(tx, [(tx.org_id, incident_id)], lock=True)
    if incident_id not in found:
        raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{incident_id}")
    standing = found[incident_id]
    over = why_over(standing.state, standing.who, wanted.rhythm)
    if over is not None:
        resolved = standing.state is State.RESOLVED
        raise TocsinError(
            reasons.ERROR_REASON_INCIDENT_RESOLVED if resolved else reasons.ERROR_REASON_INCIDENT_STATE,
            over
            if resolved
            else f"{over}, which would end the reminder at once; set `until_resolved`, or leave `every` out",
            metadata={"state": standing.state},
        )


async def find(tx: Tx, id: UUID, *, lock: bool = False) -> ReminderRow:
    """One of the tenant. Raises REMINDER_NOT_FOUND."""
    row = await reminders.get(tx, id, lock=lock)
    if row is None:
        raise not_found(reasons.ERROR_REASON_REMINDER_NOT_FOUND, f"reminders/{id}")
    return row


async def as_they_stand(tx: Tx, rows: Sequence[ReminderRow]) -> list[ReminderRow]:
    """For reads: a reminder whose incident no longer needs it is shown as ended, although its row says so only when it is due."""
    incidents = {(row.org_id, row.incident_id) for row in rows if row.next_time and row.incident_id is not None}
    known = await reminders.standings(tx, list(incidents)) if incidents else {}
    return [row if row.incident_id is None else _as_it_stands(row, known.get(row.incident_id, _NOBODY)) for row in rows]


def _as_it_stands(row: ReminderRow, standing: RemindedIncident) -> ReminderRow:
    over = why_over(standing.state, standing.who, row.rhythm) if row.state is ReminderState.SCHEDULED else None
    return row if over is None else replace(row, state=ReminderState.STOPPED, state_reason=over, next_time=None)


async def snooze(tx: Tx, id: UUID, duration: timedelta) -> ReminderRow:
    """Postpone it by this time from now. Raises REMINDER_NOT_FOUND, ALREADY_ENDED."""
    [row] = await as_they_stand(tx, [await find(tx, id, lock=True)])
    if row.state is not ReminderState.SCHEDULED:
        name = f"reminders/{id}"
        raise TocsinError(
            reasons.ERROR_REASON_ALREADY_ENDED, f"{name} has ended; create a new one", metadata={"name": name}
        )
    return await reminders.move(tx, id, await tx.now() + duration)


async def stop(tx: Tx, id: UUID, by: str) -> ReminderRow:
    """End it: no further reminder is sent. Raises REMINDER_NOT_FOUND."""
    row = await find(tx, id, lock=True)
    return await reminders.stop(tx, id, f"stopped by {by}") if row.state is ReminderState.SCHEDULED else row


class Remind:
    """Sends due reminders. Every replica may run it: a reminder is claimed by its row, in the transaction that sends it."""

    def __init__(self, db: Database, effects: Effects) -> None:
        self._db = db
        self._effects = effects

    async def everything(self) -> None:
        """Rounds until no more is due. Raises DATABASE_UNAVAILABLE: due reminders stay due."""
        async with self._db.autocommit() as tx:
            if not await reminders.is_any_due(tx):
                return
        while await self._db.run(None, self._round) == BATCH:
            pass

    async def _round(self, tx: Tx) -> int:
        due = await reminders.due(tx, BATCH)
        if not due:
            return 0
        now = await tx.now()
        of_incidents = {(row.org_id, row.incident_id) for row in due if row.incident_id is not None}
        known = await reminders.standings(tx, list(of_incidents)) if of_incidents else {}
        people = await directory.load_people(tx, list({(row.org_id, _whom(row)) for row in due}))
        verdicts: list[tuple[ReminderRow, Verdict]] = []
        jobs: list[notification_pb2.NotificationJob] = []
        for row in due:
            assert row.next_time is not None, "a scheduled one has a time"
            standing = None if row.incident_id is None else known.get(row.incident_id, _NOBODY)
            state, who = (None, "") if standing is None else (standing.state, standing.who)
            verdict = judge(state, who, row.next_time, row.rhythm, now)
            if verdict.sends and not (users := people[row.org_id].resolve([_whom(row)])):
                verdict = replace(verdict, sends=False, reason=f"nobody got the last one: {_why_nobody(_whom(row))}")
            elif verdict.sends:
                jobs += [job_of(row, user, standing) for user in users]
            verdicts.append((row, verdict))
        await reminders.settle(tx, verdicts)
        rows = [(PAGE, job.org_id, "", job.SerializeToString(), SURE_WAY_SECONDS) for job in jobs]
        await outbox.append_mixed(tx, rows)
        tx.after_commit(lambda: self._sent(jobs, len(due)))
        return len(due)

    def _sent(self, jobs: Sequence[notification_pb2.NotificationJob], due: int) -> None:
        self._effects.paging.page(jobs)
        _log.info("reminders", due=due, sent=len(jobs))


def _whom(row: ReminderRow) -> Target:
    return Target(TargetKind.USER, row.user_id) if row.team_id is None else Target(TargetKind.TEAM, row.team_id)


def _why_nobody(whom: Target) -> str:
    if whom.kind is TargetKind.USER:
        return f"{whom} is disabled or was deleted"
    return f"{whom} has no member who is not disabled, or was deleted"


def job_of(row: ReminderRow, user: str, standing: RemindedIncident | None) -> notification_pb2.NotificationJob:
    """The message that a reminder becomes for a user. A stop of the incident's pages of its generation stops it too."""
    assert row.next_time is not None, "it was due"
    planned = Timestamp()
    planned.FromDatetime(row.next_time)
    member = user if row.team_id is not None else ""
    what = standing.title if standing is not None else (row.text.splitlines() or [""])[0][:200]
    job = notification_pb2.NotificationJob(
        page=f"pages/{page_id(row.id, row.next_time, member)}",
        org_id=row.org_id,
        type=notification_pb2.NOTIFICATION_TYPE_MESSAGE,
        user=f"users/{user}",
        title=f"Reminder: {what}"[:4096],
        severity=SEVERITY_INFO,
        planned_time=planned,
        actor=row.creator,
        text=row.text,
        outlasts_acknowledge=row.rhythm.outlasts_acknowledge,
        reminder=notification_pb2.ReminderContent(title=what[:4096]),
    )
    if standing is not None:
        job.incident = job.about = f"incidents/{standing.incident_id}"
        job.source, job.generation = standing.source, standing.generation
        job.severity = standing.severity  # type: ignore[assignment]  # the number is the enum's own
        if not row.text:
            job.text, job.reminder.incident_state = f"The incident is {standing.state}.", standing.state
    return job
