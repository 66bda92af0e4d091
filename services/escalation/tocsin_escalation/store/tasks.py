"""Timers and reminders as tasks of the queue: operators list, read and change them, over all tenants.

A query reads an index of unfinished rows, in its order, for one page: it does not grow with history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Filtered, columns_of, constant, param
from tocsin_kit.tasks.task import Position, TaskEvent, TaskState

from tocsin_escalation.store import tables
from tocsin_escalation.store.incidents.timers import COLUMNS as TIMER_COLUMNS
from tocsin_escalation.store.incidents.timers import LiveTimer

_T: Final = tables.timers.alias("t")
_E: Final = tables.escalations.alias("e")
_R: Final = tables.reminders.alias("r")
_NOW: Final = sa.func.app_now()
_BEGINNING: Final[Position] = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True)
class TimerTask:
    """A live timer with its incident. `rests`: its firing failed, and `retry_time` has not come. `due`: its time has come."""

    incident_id: UUID
    org_id: str
    kind: str
    due_time: datetime
    retry_time: datetime | None
    attempts: int
    title: str
    state: str
    level: int
    acknowledged_by: str
    due: bool
    rests: bool


@dataclass(frozen=True, slots=True)
class ReminderTask:
    """A reminder that is still to come."""

    id: UUID
    org_id: str
    incident_id: UUID | None
    user_id: str
    team_id: str | None
    text: str
    next_time: datetime
    sent_count: int
    create_time: datetime
    due: bool


_DUE: Final = _T.c.due_time <= _NOW
_RESTS: Final = sa.func.coalesce(_T.c.retry_time > _NOW, sa.false())
_TIMERS: Final = sa.select(
    *columns_of(
        _T,
        TimerTask,
        title=_E.c.title,
        state=_E.c.state,
        level=_E.c.level,
        acknowledged_by=_E.c.acknowledged_by,
        due=_DUE,
        rests=_RESTS,
    )
).join_from(_T, _E, sa.and_(_E.c.incident_id == _T.c.incident_id, _E.c.org_id.is_not_distinct_from(_T.c.org_id)))
_REMINDERS: Final = sa.select(*columns_of(_R, ReminderTask, due=_R.c.next_time <= _NOW)).where(
    _R.c.state == constant("scheduled")
)


def _in_order(select: "sa.Select[Any]", time: "sa.Column[Any]", id: "sa.Column[Any]") -> Filtered:
    org_id = time.table.c.org_id
    behind = sa.tuple_(time, id) > sa.tuple_(param("after_time", sa.DateTime(True)), param("after_id", sa.UUID))
    return Filtered(select.where(behind).order_by(time, id).limit(param("limit")), org_id == param("org_id"))


_TIMERS_IN: Final = {
    TaskState.WAITING: _in_order(_TIMERS.where(_DUE, sa.not_(_RESTS)), _T.c.due_time, _T.c.incident_id),
    TaskState.DELAYED: _in_order(_TIMERS.where(sa.or_(sa.not_(_DUE), _RESTS)), _T.c.due_time, _T.c.incident_id),
}
_REMINDERS_IN: Final = {
    TaskState.WAITING: _in_order(_REMINDERS.where(_R.c.next_time <= _NOW), _R.c.next_time, _R.c.id),
    TaskState.DELAYED: _in_order(_REMINDERS.where(_R.c.next_time > _NOW), _R.c.next_time, _R.c.id),
}
_NAMED_TIMERS: Final = Filtered(_TIMERS.where(_T.c.incident_id == sa.any_(param("ids", sa.ARRAY(sa.UUID)))))
_NAMED_REMINDERS: Final = Filtered(_REMINDERS.where(_R.c.id == sa.any_(param("ids", sa.ARRAY(sa.UUID)))))
_LOCKED_REMINDERS: Final = Filtered(
    _REMINDERS.where(_R.c.id == sa.any_(param("ids", sa.ARRAY(sa.UUID))))
    .order_by(_R.c.id)
    .with_for_update(skip_locked=True)
)
_HISTORY: Final = """
SELECT create_time, kind, message FROM timeline WHERE org_id = $1 AND incident_id = $2 ORDER BY id DESC LIMIT $3
"""
_RETRY: Final = f"UPDATE timers SET retry_time = NULL WHERE org_id = $1 AND incident_id = $2 RETURNING {TIMER_COLUMNS}"
_REMIND_NOW: Final = """
UPDATE reminders SET next_time = least(next_time, app_now()) WHERE org_id = $1 AND id = $2 AND state = 'scheduled'
"""
_STOP_REMINDERS: Final = """
UPDATE reminders r SET state = 'stopped', state_reason = $3, next_time = NULL
FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id) WHERE r.id = g.id AND r.org_id = g.org_id AND r.state = 'scheduled'
"""


async def timers_in(
    tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
) -> list[TimerTask]:
    """Timers that are waiting or delayed, by due time, after a (due_time, incident_id). `org_id` None: of all tenants."""
    after_time, after_id = after or _BEGINNING
    call = _TIMERS_IN[state](org_id=org_id, after_time=after_time, after_id=after_id, limit=limit)
    return [TimerTask(*row) for row in await tx.fetch(*call)]


async def timers_named(tx: Tx, incident_ids: Sequence[UUID]) -> list[TimerTask]:
    """The live timers of these incidents. Lock the escalations first: their rows decide."""
    return [TimerTask(*row) for row in await tx.fetch(*_NAMED_TIMERS(ids=list(incident_ids)))]


async def history(tx: Tx, org_id: str, incident_id: UUID, limit: int) -> list[TaskEvent]:
    """The newest entries of the incident's timeline, newest first."""
    rows = await tx.fetch(_HISTORY, org_id, incident_id, limit)
    return [TaskEvent(row["create_time"], f"{row['kind']}: {row['message']}") for row in rows]


async def end_rest(tx: Tx, org_id: str, incident_id: UUID) -> LiveTimer | None:
    """A timer whose firing failed may fire again at once."""
    row = await tx.fetchrow(_RETRY, org_id, incident_id)
    return None if row is None else LiveTimer(*row)


async def reminders_in(
    tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
) -> list[ReminderTask]:
    """Reminders that are waiting or delayed, by their next time, after a (next_time, id). `org_id` None: of all tenants."""
    after_time, after_id = after or _BEGINNING
    call = _REMINDERS_IN[state](org_id=org_id, after_time=after_time, after_id=after_id, limit=limit)
    return [ReminderTask(*row) for row in await tx.fetch(*call)]


async def reminders_named(tx: Tx, ids: Sequence[UUID]) -> list[ReminderTask]:
    """Those of them that are still to come."""
    return [ReminderTask(*row) for row in await tx.fetch(*_NAMED_REMINDERS(ids=list(ids)))]


async def lock_reminders(tx: Tx, ids: Sequence[UUID]) -> list[ReminderTask]:
    """Those of them that are still to come and that no other transaction holds."""
    return [ReminderTask(*row) for row in await tx.fetch(*_LOCKED_REMINDERS(ids=list(ids)))]


async def remind_now(tx: Tx, org_id: str, id: UUID) -> None:
    """A locked reminder is due now."""
    await tx.execute(_REMIND_NOW, org_id, id)


async def stop_reminders(tx: Tx, named: Sequence[tuple[str, UUID]], reason: str) -> None:
    """End locked reminders (tenant, id)."""
    await tx.execute(_STOP_REMINDERS, [org for org, _ in named], [id for _, id in named], reason)
