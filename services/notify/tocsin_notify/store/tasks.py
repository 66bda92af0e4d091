"""Notifications, messages and dead letters as tasks of the queue: operators list, read and change them, over all
tenants.

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

from tocsin_notify.store import tables
from tocsin_notify.store.delivery.dead_letters import DeadLetterHead
from tocsin_notify.store.named import Named

_N: Final = tables.notifications.alias("n")
_P: Final = tables.pages.alias("p")
_M: Final = tables.messages.alias("m")
_D: Final = tables.dead_letters.alias("d")
_NOW: Final = sa.func.app_now()
_BEGINNING: Final[Position] = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))
_END: Final[Position] = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=(1 << 128) - 1))


@dataclass(frozen=True, slots=True)
class NotificationTask:
    """A notification that waits or is being sent. `due`: its time has come. `type`: its page's."""

    id: UUID
    org_id: str
    page_id: UUID
    user_id: str
    incident: UUID | None
    channel: str
    step: int
    state: str
    state_reason: str
    due_time: datetime | None
    lease_until: datetime | None
    attempts: int
    tries: int
    create_time: datetime
    type: str
    due: bool


@dataclass(frozen=True, slots=True)
class MessageTask:
    """A message that is still to be sent."""

    id: UUID
    org_id: str
    user_id: str
    channel: str | None
    send_time: datetime
    create_time: datetime
    due: bool


_DUE: Final = sa.func.coalesce(_N.c.due_time <= _NOW, sa.true())
_NOTIFICATIONS: Final = sa.select(*columns_of(_N, NotificationTask, type=_P.c.type, due=_DUE)).join_from(
    _N, _P, sa.and_(_P.c.id == _N.c.page_id, _P.c.org_id.is_not_distinct_from(_N.c.org_id))
)
_PENDING: Final = _NOTIFICATIONS.where(_N.c.state == constant("pending"))
_SENDING: Final = _NOTIFICATIONS.where(_N.c.state == constant("sending"))
_MESSAGES: Final = sa.select(*columns_of(_M, MessageTask, due=_M.c.send_time <= _NOW)).where(
    _M.c.state == constant("scheduled")
)
_LETTERS: Final = sa.select(*columns_of(_D, DeadLetterHead)).where(_D.c.redrive_time.is_(None))


def _in_order(select: "sa.Select[Any]", time: "sa.Column[Any]", id: "sa.Column[Any]") -> Filtered:
    behind = sa.tuple_(time, id) > sa.tuple_(param("after_time", sa.DateTime(True)), param("after_id", sa.UUID))
    return Filtered(
        select.where(behind).order_by(time, id).limit(param("limit")), time.table.c.org_id == param("org_id")
    )


def _named(select: "sa.Select[Any]", id: "sa.Column[Any]", *, lock: "sa.FromClause | None" = None) -> Filtered:
    named = select.where(id == sa.any_(param("ids", sa.ARRAY(sa.UUID)))).order_by(id)
    return Filtered(named if lock is None else named.with_for_update(skip_locked=True, of=lock))


_NOTIFICATIONS_IN: Final = {
    TaskState.WAITING: _in_order(_PENDING.where(_N.c.due_time <= _NOW), _N.c.due_time, _N.c.id),
    TaskState.DELAYED: _in_order(_PENDING.where(_N.c.due_time > _NOW), _N.c.due_time, _N.c.id),
    TaskState.ACTIVE: _in_order(_SENDING, _N.c.lease_until, _N.c.id),
}
_MESSAGES_IN: Final = {
    TaskState.WAITING: _in_order(_MESSAGES.where(_M.c.send_time <= _NOW), _M.c.send_time, _M.c.id),
    TaskState.DELAYED: _in_order(_MESSAGES.where(_M.c.send_time > _NOW), _M.c.send_time, _M.c.id),
}
_NEWEST_LETTERS: Final = Filtered(
    _LETTERS.where(
        sa.tuple_(_D.c.create_time, _D.c.id)
        < sa.tuple_(param("before_time", sa.DateTime(True)), param("before_id", sa.UUID))
    )
    .order_by(_D.c.create_time.desc(), _D.c.id.desc())
    .limit(param("limit")),
    _D.c.org_id == param("org_id"),
)
_ALIVE: Final = _NOTIFICATIONS.where(_N.c.state.in_([constant("pending"), constant("sending")]))
_NAMED_NOTIFICATIONS: Final = _named(_ALIVE, _N.c.id)
_LOCKED_NOTIFICATIONS: Final = _named(_ALIVE, _N.c.id, lock=_N)
_NAMED_MESSAGES: Final = _named(_MESSAGES, _M.c.id)
_LOCKED_MESSAGES: Final = _named(_MESSAGES, _M.c.id, lock=_M)
_NAMED_LETTERS: Final = _named(_LETTERS, _D.c.id)
_LOCKED_LETTERS: Final = _named(_LETTERS, _D.c.id, lock=_D)
_PAGES_OF: Final = """
SELECT org_id, page_id FROM notifications
WHERE id = ANY($1::uuid[]) AND state IN ('pending', 'sending') AND ($2 = '*' OR org_id = $2)
"""
_HISTORY: Final = """
SELECT start_time, end_time, outcome, detail, number FROM attempts
WHERE org_id = $1 AND notification_id = $2 ORDER BY number DESC LIMIT $3
"""
_PROMOTE: Final = """
UPDATE notifications SET due_time = least(due_time, app_now()) WHERE org_id = $1 AND id = $2 AND state = 'pending'
"""
_CANCEL: Final = """
UPDATE notifications n SET state = 'cancelled', state_reason = $3, due_time = NULL
FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id) WHERE n.id = g.id AND n.org_id = g.org_id AND n.state = 'pending'
"""
_SEND_NOW: Final = """
UPDATE messages SET send_time = app_now(), local_time = '', time_zone = '', version = version + 1, update_time = app_now()
WHERE org_id = $1 AND id = $2 AND state = 'scheduled'
"""
_CANCEL_MESSAGES: Final = """
UPDATE messages m SET state = 'cancelled', state_reason = $3, version = m.version + 1, update_time = app_now()
FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id) WHERE m.id = g.id AND m.org_id = g.org_id AND m.state = 'scheduled'
"""
_DISCARD: Final = """
DELETE FROM dead_letters d USING unnest($1::text[], $2::uuid[]) AS g(org_id, id)
WHERE d.id = g.id AND d.org_id = g.org_id AND d.redrive_time IS NULL
"""


async def notifications_in(
    tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
) -> list[NotificationTask]:
    """Those that are waiting or delayed, by due time, or the active ones, by the end of their lease, after a (time,
    id)."""
    after_time, after_id = after or _BEGINNING
    call = _NOTIFICATIONS_IN[state](org_id=org_id, after_time=after_time, after_id=after_id, limit=limit)
    return [NotificationTask(*row) for row in await tx.fetch(*call)]


async def notifications_named(tx: Tx, ids: Sequence[UUID]) -> list[NotificationTask]:
    """Those of them that wait or are being sent."""
    return [NotificationTask(*row) for row in await tx.fetch(*_NAMED_NOTIFICATIONS(ids=list(ids)))]


async def pages_of(tx: Tx, ids: Sequence[UUID]) -> set[Named]:
    """The pages of those of these notifications that wait or are being sent: to lock before the notifications."""
    return {(row["org_id"], row["page_id"]) for row in await tx.fetch(_PAGES_OF, list(ids), tx.org_id)}


async def lock_notifications(tx: Tx, ids: Sequence[UUID]) -> list[NotificationTask]:
    """Those of them that wait or are being sent, and that no other transaction holds."""
    return [NotificationTask(*row) for row in await tx.fetch(*_LOCKED_NOTIFICATIONS(ids=list(ids)))]


async def history(tx: Tx, org_id: str, notification: UUID, limit: int) -> list[TaskEvent]:
    """Its attempts, newest first."""
    rows = await tx.fetch(_HISTORY, org_id, notification, limit)
    return [
        TaskEvent(
            row["start_time"],
            f"attempt {row['number']}: {row['outcome']}" + (f", {row['detail']}" if row["detail"] else ""),
            row["end_time"] - row["start_time"] if row["end_time"] else None,
        )
        for row in rows
    ]


async def send_now(tx: Tx, org_id: str, notification: UUID) -> None:
    """A locked, pending one is due now."""
    await tx.execute(_PROMOTE, org_id, notification)


async def cancel(tx: Tx, named: Sequence[Named], reason: str) -> None:
    """Locked, pending ones are not sent."""
    await tx.execute(_CANCEL, [org for org, _ in named], [id for _, id in named], reason)


async def messages_in(
    tx: Tx, state: TaskState, org_id: str | None, after: Position | None, limit: int
) -> list[MessageTask]:
    """Messages that are waiting or delayed, by their time, after a (send_time, id). `org_id` None: of all tenants."""
    after_time, after_id = after or _BEGINNING
    call = _MESSAGES_IN[state](org_id=org_id, after_time=after_time, after_id=after_id, limit=limit)
    return [MessageTask(*row) for row in await tx.fetch(*call)]


async def messages_named(tx: Tx, ids: Sequence[UUID], *, lock: bool = False) -> list[MessageTask]:
    """Those of them that are still to be sent; with `lock` held, and without those that another transaction holds."""
    call = (_LOCKED_MESSAGES if lock else _NAMED_MESSAGES)(ids=list(ids))
    return [MessageTask(*row) for row in await tx.fetch(*call)]


async def send_message_now(tx: Tx, org_id: str, id: UUID) -> None:
    """A locked, scheduled one is due now."""
    await tx.execute(_SEND_NOW, org_id, id)


async def cancel_messages(tx: Tx, named: Sequence[Named], reason: str) -> None:
    """Locked, scheduled ones are not sent."""
    await tx.execute(_CANCEL_MESSAGES, [org for org, _ in named], [id for _, id in named], reason)


async def letters(tx: Tx, org_id: str | None, before: Position | None, limit: int) -> list[DeadLetterHead]:
    """Dead letters that were not redriven, newest first, after a (create_time, id). `org_id` None: of all tenants."""
    before_time, before_id = before or _END
    call = _NEWEST_LETTERS(org_id=org_id, before_time=before_time, before_id=before_id, limit=limit)
    return [DeadLetterHead(*row) for row in await tx.fetch(*call)]


async def letters_named(tx: Tx, ids: Sequence[UUID], *, lock: bool = False) -> list[DeadLetterHead]:
    """Those of them that were not redriven; with `lock` held, and without those that another transaction holds."""
    call = (_LOCKED_LETTERS if lock else _NAMED_LETTERS)(ids=list(ids))
    return [DeadLetterHead(*row) for row in await tx.fetch(*call)]


async def discard(tx: Tx, named: Sequence[Named]) -> None:
    """Locked dead letters are deleted."""
    await tx.execute(_DISCARD, [org for org, _ in named], [id for _, id in named])
