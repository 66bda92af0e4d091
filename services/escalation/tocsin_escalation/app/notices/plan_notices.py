"""Plans notices of shifts: reads the schedules of all users who want notices, again and again.

A round compares the notices that are due with those that are planned, so it notices each change of who is on call. What is
planned is a row. `send_notices` sends it after it has resolved the schedules once more.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger
from tocsin_kit.time_slices import TimeSlice

from tocsin_escalation.app import all_tenants
from tocsin_escalation.app.bisection import run_transaction
from tocsin_escalation.app.notices import notice_jobs
from tocsin_escalation.app.schedules import coming_shifts
from tocsin_escalation.app.schedules.coming_shifts import Shifts
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.shift_notices import Choice, Key, Notice, NoticeState, Shift, planned
from tocsin_escalation.store.notices import shift_notices
from tocsin_escalation.store.notices.shift_notices import Chooser, NoticeRow
from tocsin_escalation.store.schedules import on_call

_log = get_logger(__name__)

_TENANTS: Final = 50
"""Tenants that are read together."""
_SCHEDULES: Final = 2000
"""The same of all of them."""
_USERS: Final = 200
"""Users whose notices one transaction writes: it locks their choices, and pages wait while it computes."""

_Who = tuple[str, str]
"""Tenant and user."""


@dataclass(frozen=True, slots=True)
class Change:
    """Notices of a user to remove, and notices to add."""

    gone: tuple[Key, ...]
    new: tuple[Notice, ...]


class PlanNotices:
    """Plans the notices of all tenants.

    Every replica may run it: differences are written under the lock of the user's choice.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def look(self) -> None:
        """One round. Raises DATABASE_UNAVAILABLE."""
        await all_tenants.work_on(
            self._db, shift_notices.tenants, self._tenants, _failed, together=_TENANTS, schedules=_SCHEDULES
        )

    async def _tenants(self, org_ids: Sequence[str], keys: Sequence[on_call.Key]) -> None:
        choosers, rows, shifts, now = await run_transaction(self._db, None, partial(_read, org_ids=org_ids, keys=keys))
        different: defaultdict[str, dict[str, Chooser]] = defaultdict(dict)
        time_slice = TimeSlice()
        for who, chooser in choosers.items():
            await time_slice.yield_if_over()
            change = change_of(chooser, shifts.get(who, ()), rows.get(who, ()), now)
            if change.gone or change.new:
                different[chooser.org_id][chooser.user_id] = chooser
        for org_id, users in different.items():
            names = list(users)
            for begin in range(0, len(names), _USERS):
                part = {name: users[name] for name in names[begin : begin + _USERS]}
                await run_transaction(self._db, org_id, partial(_write, users=part, shifts=shifts))


async def _read(
    tx: Tx, org_ids: Sequence[str], keys: Sequence[on_call.Key]
) -> tuple[dict[_Who, Chooser], dict[_Who, list[NoticeRow]], Shifts, datetime]:
    now = await tx.now()
    choosers = {(each.org_id, each.user_id): each for each in await shift_notices.choosers(tx, org_ids)}
    rows = _by_user(await shift_notices.of_tenants(tx, org_ids))
    return choosers, rows, await coming_shifts.of(tx, keys, choosers, now), now


def _failed(org_id: str) -> None:
    """It is tried again in the next look."""
    _log.exception("notices_not_planned", org_id=org_id)


async def _write(tx: Tx, users: Mapping[str, Chooser], shifts: Shifts) -> None:
    """Another replica may have sent some since, or the user may have changed the choice: the latter is left for the next round."""
    held = [each for each in await shift_notices.lock(tx, users) if each.version == users[each.user_id].version]
    ids = [each.user_id for each in held]
    rows = _by_user([(tx.org_id, row) for row in await shift_notices.of_users(tx, ids)])
    gone: list[tuple[str, Key]] = []
    new: list[tuple[str, Notice]] = []
    now = await tx.now()
    for chooser in held:
        who = chooser.org_id, chooser.user_id
        change = change_of(chooser, shifts.get(who, ()), rows.get(who, ()), now)
        gone += [(chooser.user_id, key) for key in change.gone]
        new += [(chooser.user_id, notice) for notice in change.new]
    await shift_notices.replan(tx, gone, new, ids)


def choice_of(chooser: Chooser) -> Choice:
    """What the user wants; nothing while they are disabled."""
    zone = notice_jobs.zone_of(chooser.time_zone)
    since = minute_of(chooser.update_time)
    if chooser.disabled:
        return Choice(zone, None, False, None, since)
    return Choice(zone, chooser.before_minutes, chooser.hand_over, chooser.week_minute, since)


def told_in(rows: Sequence[NoticeRow]) -> frozenset[Key]:
    """The notices that the user has got, or will not get."""
    return frozenset(row.key for row in rows if row.state is not NoticeState.PLANNED)


def change_of(chooser: Chooser, shifts: Sequence[Shift], rows: Sequence[NoticeRow], now: datetime) -> Change:
    """The differences. Due notices are left to be sent: they are checked then."""
    wanted = {each.key: each for each in planned(choice_of(chooser), shifts, minute_of(now), told_in(rows))}
    kept = {row.key: row.due_time for row in rows if row.state is NoticeState.PLANNED}
    return Change(
        tuple(key for key, due in kept.items() if key not in wanted and due > now),
        tuple(each for key, each in wanted.items() if key not in kept or minute_of(kept[key]) != each.due),
    )


def _by_user(rows: Sequence[tuple[str, NoticeRow]]) -> dict[tuple[str, str], list[NoticeRow]]:
    found: dict[tuple[str, str], list[NoticeRow]] = {}
    for org_id, row in rows:
        found.setdefault((org_id, row.user_id), []).append(row)
    return found
