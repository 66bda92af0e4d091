"""Sends notices of shifts that are due.

The rows are the record, and a sweep finds due ones. A message and the end of its notices are one transaction, under the lock of
the user's choice: each is sent once, even if a process is killed or two processes do the same. A notice is sent only if the
schedules still give it at that time. Its outbox rows have a relay of their own, and a round is bounded: pages do not wait for
notices.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tocsin.notify.v1 import notification_pb2
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.bisection import bisect, run_transaction
from tocsin_escalation.app.notices import notice_jobs
from tocsin_escalation.app.notices.plan_notices import choice_of, told_in
from tocsin_escalation.app.notices.shift_contents import Open, Reader, of_shifts
from tocsin_escalation.app.schedules import coming_shifts
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.shift_details import Names, OpenIncident, of_schedules
from tocsin_escalation.domain.shift_notices import (
    Key,
    NoticeKind,
    NoticeState,
    Shift,
    ends,
    in_order,
    planned,
    too_late,
    within_week,
)
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.notices import shift_notices
from tocsin_escalation.store.notices.shift_notices import Chooser, NoticeRow

_log = get_logger(__name__)

_REST: Final = timedelta(minutes=1)
"""After which a user whose notices could not be sent is tried again."""


@dataclass(frozen=True, slots=True)
class _Message:
    """All notices of one kind that a user gets at this time."""

    chooser: Chooser
    kind: NoticeKind
    keys: tuple[Key, ...]
    due: int
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, slots=True)
class _Verdict:
    messages: tuple[_Message, ...]
    skipped: tuple[Key, ...]
    gone: tuple[Key, ...]


class SendNotices:
    """Sends the notices of all tenants that are due. Every replica may run it."""

    def __init__(self, db: Database, metrics: EscalationMetrics, most: int, nudge: Callable[[], None]) -> None:
        """`most`: users in one round. `nudge` wakes the relay of notices."""
        self._db = db
        self._metrics = metrics
        self._most = most
        self._nudge = nudge

    async def round(self) -> None:
        """Those who have waited longest; tenants alternate. Raises DATABASE_UNAVAILABLE: due notices stay due."""
        async with self._db.autocommit() as tx:
            due = await shift_notices.due(tx, self._most)
        by_tenant: defaultdict[str, list[str]] = defaultdict(list)
        for org_id, user in due:
            by_tenant[org_id].append(user)
        for org_id, users in by_tenant.items():
            failed: list[str] = []
            await bisect(users, partial(self._tell, org_id), partial(_failed, failed, org_id))
            if failed:
                self._metrics.shift_notices.labels("failed").inc(len(failed))
                async with self._db.transaction(org_id) as tx:
                    await shift_notices.rest(tx, failed, _REST)

    async def _tell(self, org_id: str, users: Sequence[str]) -> None:
        await run_transaction(self._db, org_id, partial(self._send, users=users))

    async def _send(self, tx: Tx, users: Sequence[str]) -> None:
        held = await shift_notices.lock(tx, users)
        if not held:
            return  # another replica has them
        ids = [each.user_id for each in held]
        rows: defaultdict[str, list[NoticeRow]] = defaultdict(list)
        for row in await shift_notices.of_users(tx, ids):
            rows[row.user_id].append(row)
        now = await tx.now()
        shifts = await coming_shifts.of(
            tx, await _schedules(tx, rows.values(), now), {(tx.org_id, id) for id in ids}, now
        )
        verdicts = {
            each.user_id: _judge(each, rows[each.user_id], shifts.get((tx.org_id, each.user_id), []), now)
            for each in held
        }
        messages = [message for verdict in verdicts.values() for message in verdict.messages]
        jobs = await _jobs(tx, messages, now)
        await notice_jobs.append(tx, jobs)
        sent = [(each.chooser.user_id, key, NoticeState.SENT) for each in messages for key in each.keys]
        skipped = [(user, key, NoticeState.SKIPPED) for user, verdict in verdicts.items() for key in verdict.skipped]
        gone = [(user, key) for user, verdict in verdicts.items() for key in verdict.gone]
        await shift_notices.settle(tx, [*sent, *skipped], gone, ids)
        tx.after_commit(self._nudge)
        tx.after_commit(lambda: self._count(len(sent), len(skipped), len(gone)))

    def _count(self, sent: int, skipped: int, moved: int) -> None:
        for outcome, number in (("sent", sent), ("skipped", skipped), ("moved", moved)):
            self._metrics.shift_notices.labels(outcome).inc(number)


def _failed(failed: list[str], org_id: str, user: str) -> None:
    """Due notices stay due, and are tried again after a pause."""
    _log.exception("notice_not_sent", org_id=org_id, user=user)
    failed.append(user)


async def _schedules(tx: Tx, rows: Iterable[Sequence[NoticeRow]], now: datetime) -> list[tuple[str, str]]:
    due = [row for each in rows for row in each if _is_due(row, now)]
    if any(row.kind is NoticeKind.WEEK for row in due):
        return await shift_notices.schedules(tx, [tx.org_id])
    return [(tx.org_id, id) for id in sorted({row.schedule_id for row in due})]


def _is_due(row: NoticeRow, now: datetime) -> bool:
    return row.state is NoticeState.PLANNED and row.due_time <= now


def _judge(chooser: Chooser, rows: Sequence[NoticeRow], shifts: Sequence[Shift], now: datetime) -> _Verdict:
    minute = minute_of(now)
    fresh = {each.key: each for each in planned(choice_of(chooser), shifts, minute, told_in(rows))}
    begins = {(shift.schedule, shift.start) for shift in shifts}
    told: defaultdict[NoticeKind, list[Key]] = defaultdict(list)
    skipped, gone = list[Key](), list[Key]()
    for row in rows:
        if not _is_due(row, now):
            continue
        if too_late(row.key, minute):
            skipped.append(row.key)
        elif row.key in fresh:
            told[row.kind].append(row.key)
        elif (row.key.schedule, row.key.start) in begins:
            skipped.append(row.key)
        else:
            gone.append(row.key)
    messages = []
    for kind, keys in told.items():
        about = in_order(each.shift for key in keys if (each := fresh[key]).shift is not None)
        if kind is NoticeKind.WEEK:
            about = within_week(shifts, minute)
        due = min(fresh[key].due for key in keys)
        messages.append(_Message(chooser, kind, tuple(keys), due, tuple(about)))
    return _Verdict(tuple(messages), tuple(skipped), tuple(gone))


async def _jobs(tx: Tx, messages: Sequence[_Message], now: datetime) -> list[notification_pb2.NotificationJob]:
    if not messages:
        return []
    shifts = [shift for message in messages for shift in message.shifts]
    people = {user for shift in shifts for user in (*shift.hands_over, *shift.beside)}
    names = Names(*await shift_notices.names(tx, {shift.schedule for shift in shifts}, people))
    incidents, cut = list[OpenIncident](), False
    if any(message.kind is NoticeKind.HAND_OVER for message in messages):
        incidents, cut = await shift_notices.open_incidents(tx)
    return await asyncio.to_thread(
        lambda: [_job(tx.org_id, each, names, incidents, minute_of(now), cut=cut) for each in messages]
    )


def _job(
    org_id: str, message: _Message, names: Names, incidents: Sequence[OpenIncident], now: int, *, cut: bool
) -> notification_pb2.NotificationJob:
    chooser = message.chooser
    schedules = frozenset(shift.schedule for shift in message.shifts)
    opened = Open(of_schedules(incidents, schedules), cut) if message.kind is NoticeKind.HAND_OVER else None
    told = of_shifts(message.kind, message.shifts, names, Reader(choice_of(chooser).zone, now), opened)
    expires = min(ends(key, now) for key in message.keys)
    return notice_jobs.job(org_id, chooser.user_id, chooser.channel, told, schedules, message.due, expires)
