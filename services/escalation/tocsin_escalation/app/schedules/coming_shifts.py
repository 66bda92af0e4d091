"""The shifts of the coming days, for any number of schedules; the result is cached as long as a schedule is unchanged."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from tocsin_kit.db.pool import Tx
from tocsin_kit.logging import get_logger

from tocsin_escalation.domain.schedules.clock import DAY, minute_of, time_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.paging import WORK_LEAST, WORK_TOGETHER, WorkBudget
from tocsin_escalation.domain.schedules.questions import users_of
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.work import spans, weight
from tocsin_escalation.domain.shift_notices import Shift, shifts_in
from tocsin_escalation.store.schedules import on_call

_log = get_logger(__name__)

_STEP: Final = 6 * 60
"""Minutes for which a result is cached."""
_LOOKED_AT: Final = 2 * _STEP + 8 * DAY
_AT_ONCE: Final = 200

Shifts = Mapping[tuple[str, str], Sequence[Shift]]
"""By tenant and user."""


@dataclass(frozen=True, slots=True)
class ComingShifts:
    """Shifts up to `until`, without those of schedules that would be too much work."""

    shifts: Shifts
    until: int
    passed_over: frozenset[on_call.Key]


async def of(tx: Tx, keys: Sequence[on_call.Key], users: Collection[tuple[str, str]], now: datetime) -> Shifts:
    """The shifts of these (tenant, user) in these schedules that begin within the next eight days, or began within the last six
    hours."""
    return (await within(tx, keys, users, now, _LOOKED_AT)).shifts


async def within(
    tx: Tx, keys: Sequence[on_call.Key], users: Collection[tuple[str, str]], now: datetime, minutes: int
) -> ComingShifts:
    """The same for so many minutes, a few of which are in the past."""
    since = (minute_of(now) // _STEP - 1) * _STEP
    found: defaultdict[tuple[str, str], list[Shift]] = defaultdict(list)
    passed_over: set[on_call.Key] = set()
    works: defaultdict[str, WorkBudget] = defaultdict(lambda: WorkBudget(WORK_TOGETHER))
    for begin in range(0, len(keys), _AT_ONCE):
        some = keys[begin : begin + _AT_ONCE]
        schedules = await on_call.load(tx, some, time_of(since), time_of(since + minutes))
        # In a thread: resolving hundreds of schedules that are not cached takes longer than other calls may wait.
        passed_over |= await asyncio.to_thread(_add, found, schedules, users, (since, minutes), works)
    return ComingShifts(found, since + minutes, frozenset(passed_over))


def _add(
    found: Mapping[tuple[str, str], list[Shift]],
    schedules: Mapping[on_call.Key, Schedule],
    users: Collection[tuple[str, str]],
    looked_at: tuple[int, int],
    works: Mapping[str, WorkBudget],
) -> set[on_call.Key]:
    """Returns the schedules that would be too much work."""
    passed_over = set()
    for (org_id, id), schedule in schedules.items():
        if not any((org_id, user) in users for user in users_of(schedule)):
            continue
        cost = spans(schedule, looked_at[1]) * weight(schedule)
        if cost <= WORK_LEAST:
            shifts = _kept(schedule, *looked_at)
        elif works[org_id].may(cost):
            shifts = _resolved(schedule, *looked_at)
        else:
            passed_over.add((org_id, id))
            _log.warning("shifts_not_looked_at", org_id=org_id, schedule=id, work=cost)
            continue
        for shift in shifts:
            if (org_id, shift.user) in users:
                found[org_id, shift.user].append(shift)
    return passed_over


@lru_cache(2 * on_call.KEPT)
def _kept(schedule: Schedule, since: int, minutes: int) -> tuple[Shift, ...]:
    """Notices and changes need different lengths of time, for every schedule."""
    return _resolved(schedule, since, minutes)


def _resolved(schedule: Schedule, since: int, minutes: int) -> tuple[Shift, ...]:
    return tuple(shifts_in(schedule.id, resolve(schedule, since, since + minutes)))
