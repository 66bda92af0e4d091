"""Tells users whose shifts were changed: compares what they know with the schedules, again and again.

What a user knows is a row, written in the transaction of the message about it: each change is told once, even if a process is
killed or two processes do the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from tocsin.notify.v1 import notification_pb2
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger
from tocsin_kit.time_slices import TimeSlice

from tocsin_escalation.app import all_tenants
from tocsin_escalation.app.bisection import run_transaction
from tocsin_escalation.app.notices import notice_jobs
from tocsin_escalation.app.notices.shift_contents import Reader, of_change
from tocsin_escalation.app.schedules import coming_shifts
from tocsin_escalation.app.schedules.coming_shifts import ComingShifts
from tocsin_escalation.domain.schedules.clock import DAY, minute_of, time_of
from tocsin_escalation.domain.schedules.model import Segment
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.shift_changes import LOOKED_AT, Change, Verdict, judge, present
from tocsin_escalation.domain.shift_details import Names
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.notices import known_shifts, shift_notices
from tocsin_escalation.store.notices.known_shifts import Recipient
from tocsin_escalation.store.schedules import on_call

_log = get_logger(__name__)

_TENANTS: Final = 20
"""That are read together."""
_SCHEDULES: Final = 1000
"""The same of all of them."""
_USERS: Final = 100
"""Whom one transaction tells."""
_MARGIN: Final = DAY
"""A resolved time is cached for some hours, so a little more is resolved."""


class TellChanges:
    """Tells users of all tenants about changes of their shifts. Every replica may run it."""

    def __init__(self, db: Database, metrics: EscalationMetrics) -> None:
        self._db = db
        self._metrics = metrics

    async def look(self) -> None:
        """Once. Raises DATABASE_UNAVAILABLE."""
        await all_tenants.work_on(
            self._db, known_shifts.tenants, self._tenants, self._failed, together=_TENANTS, schedules=_SCHEDULES
        )

    async def _tenants(self, org_ids: Sequence[str], keys: Sequence[on_call.Key]) -> None:
        recipients, coming, now = await run_transaction(self._db, None, partial(_read, org_ids=org_ids, keys=keys))
        looked_at = set(keys) - coming.passed_over
        full = _full(keys)
        judged: defaultdict[str, dict[str, tuple[Recipient, Verdict]]] = defaultdict(dict)
        time_slice = TimeSlice()
        for (org_id, user), recipient in recipients.items():
            await time_slice.yield_if_over()
            said = present(coming.shifts.get((org_id, user), ()), now, min(coming.until, now + LOOKED_AT))
            known = {each.schedule for each in recipient.known.stretches} if recipient.known else set()
            # A schedule that was deleted is a loss; one that there was no time to resolve is not.
            unsure = {
                each
                for each in known
                if (org_id, each) in coming.passed_over or (org_id in full and (org_id, each) not in looked_at)
            }
            verdict = judge(recipient.known, said, now, unsure)
            if verdict.known is not None:
                judged[org_id][user] = recipient, verdict
        for org_id, users in judged.items():
            names = list(users)
            for begin in range(0, len(names), _USERS):
                part = {name: users[name] for name in names[begin : begin + _USERS]}
                await run_transaction(self._db, org_id, partial(self._write, users=part, now=now))

    async def _write(self, tx: Tx, users: Mapping[str, tuple[Recipient, Verdict]], now: int) -> None:
        versions = await known_shifts.lock(tx, users)
        held = [each for name, each in users.items() if versions.get(name) == each[0].version]
        told = [(recipient, verdict.told) for recipient, verdict in held if verdict.told is not None]
        await notice_jobs.append(tx, await _jobs(tx, told, now))
        known = [(recipient.user_id, verdict.known) for recipient, verdict in held if verdict.known is not None]
        await known_shifts.save(tx, known)
        tx.after_commit(lambda: self._metrics.shift_notices.labels("sent").inc(len(told)))

    def _failed(self, org_id: str) -> None:
        """It is tried again in the next look."""
        self._metrics.shift_notices.labels("failed").inc()
        _log.exception("changes_of_shifts_not_told", org_id=org_id)


async def _read(
    tx: Tx, org_ids: Sequence[str], keys: Sequence[on_call.Key]
) -> tuple[dict[tuple[str, str], Recipient], ComingShifts, int]:
    now = minute_of(await tx.now())
    recipients = {(each.org_id, each.user_id): each for each in await known_shifts.recipients(tx, org_ids)}
    return recipients, await coming_shifts.within(tx, keys, recipients, time_of(now), LOOKED_AT + _MARGIN), now


def _full(keys: Sequence[on_call.Key]) -> frozenset[str]:
    """Tenants that may have more schedules than are resolved."""
    count: defaultdict[str, int] = defaultdict(int)
    for org_id, _ in keys:
        count[org_id] += 1
    return frozenset(org_id for org_id, number in count.items() if number >= shift_notices.MOST_SCHEDULES)


async def _jobs(tx: Tx, told: Sequence[tuple[Recipient, Change]], now: int) -> list[notification_pb2.NotificationJob]:
    if not told:
        return []
    ids = {schedule for _, change in told for schedule in change.schedules}
    keys = [(tx.org_id, id) for id in sorted(ids)]
    schedules = await on_call.load(tx, keys, time_of(now), time_of(now + LOOKED_AT))

    def at(schedule: str, minute: int) -> Segment | None:
        found = schedules.get((tx.org_id, schedule))
        return resolve(found, minute, minute + 1)[0] if found else None

    people = {
        user
        for _, change in told
        for each in change.lost
        if (segment := at(each.schedule, each.start)) is not None
        for user in segment.people
    }
    names = Names(*await shift_notices.names(tx, ids, people))
    return [
        notice_jobs.job(
            tx.org_id,
            recipient.user_id,
            recipient.channel,
            of_change(change, recipient.user_id, at, names, Reader(notice_jobs.zone_of(recipient.time_zone), now)),
            change.schedules,
            now,
            now + DAY,
        )
        for recipient, change in told
    ]
