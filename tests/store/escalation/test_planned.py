"""How much may be planned for one schedule."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from tocsin_escalation.app.schedules import overrides, planned, schedules
from tocsin_escalation.app.schedules import replace_periods as replacing
from tocsin_escalation.app.schedules.replace_periods import replace_periods
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import FixedShift, Scope
from tocsin_escalation.store.schedules import on_call
from tocsin_escalation.store.schedules.fixed_periods import FixedPeriodRow
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

from tests.store.escalation.recorders import ORG, Desk


def period(start: datetime, shifts: int, schedule: str = "s") -> FixedPeriodRow:
    """Of a quarter of an hour for each shift."""
    first = minute_of(start)
    each = tuple(FixedShift(first + 15 * n, first + 15 * (n + 1), ("ana",)) for n in range(shifts))
    return FixedPeriodRow(uuid4(), schedule, start, start + timedelta(minutes=15 * shifts), each, "", "users/ana")


async def test_shifts_of_fixed_periods_and_overrides_of_a_schedule_are_bounded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has ended does not count, nor do those of another schedule."""
    monkeypatch.setattr(overrides, "MOST_SHIFTS", 5)
    monkeypatch.setattr(planned, "MOST", 3)

    async def plan(row: Any) -> None:
        if isinstance(row, OverrideRow):
            await desk.db.run(ORG, lambda tx: overrides.create_override(tx, row))
        else:
            await desk.db.run(ORG, lambda tx: overrides.create_fixed_period(tx, row))

    async def set_up(tx: Tx) -> datetime:
        for name in ("s", "other"):
            await schedules.create(tx, ScheduleRow(name, name, "", "UTC", False, ()))
        return planned.minute(await tx.now())

    now = await desk.db.run(ORG, set_up)
    await plan(period(now, 3))
    await plan(period(now, 2))
    await plan(replace(period(now, 5), schedule_id="other"))
    with pytest.raises(TocsinError) as refused:
        await plan(period(now, 1))
    assert (refused.value.reason_name, refused.value.metadata["limit"]) == ("LIMIT_REACHED", "shifts_of_fixed_periods")
    await desk.passes(minutes=31)
    await plan(period(now + timedelta(minutes=31), 2))
    soon = now + timedelta(hours=2)
    override = OverrideRow(uuid4(), "s", soon, soon + timedelta(hours=1), Scope.SCHEDULE, "", ("ana",), "", "users/ana")
    for _ in range(3):
        await plan(replace(override, id=uuid4()))
    with pytest.raises(TocsinError) as refused:
        await plan(replace(override, id=uuid4()))
    assert refused.value.metadata["allowed"] == "3"


async def test_a_period_that_is_cut_in_two_counts_twice_and_its_rest_keeps_its_place(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def set_up(tx: Tx) -> datetime:
        await schedules.create(tx, ScheduleRow("s", "s", "", "UTC", False, ()))
        return planned.minute(await tx.now()) + timedelta(hours=1)

    soon = await desk.db.run(ORG, set_up)
    older, newer = period(soon, 2), replace(period(soon, 2), shifts=())
    for row in (older, newer):
        await desk.db.run(ORG, lambda tx, row=row: overrides.create_fixed_period(tx, row))  # type: ignore[misc]

    async def take_out(first: int, last: int) -> list[tuple[int, int, int]]:
        """Minutes of what is left, and how many shifts it has."""
        gone = soon + timedelta(minutes=first), soon + timedelta(minutes=last)
        done = await desk.db.run(ORG, lambda tx: replace_periods(tx, "s", *gone, ()))
        return [
            ((row.start_time - soon).seconds // 60, (row.end_time - soon).seconds // 60, len(row.shifts))
            for row in done.remaining
        ]

    for bound, limit in (("MOST", "fixed_periods"), ("MOST_SHIFTS", "shifts_of_fixed_periods")):
        monkeypatch.setattr(planned if bound == "MOST" else replacing, bound, 2)
        with pytest.raises(TocsinError) as refused:
            await take_out(10, 12)
        assert (refused.value.reason_name, refused.value.metadata["limit"]) == ("LIMIT_REACHED", limit)
        monkeypatch.undo()
    assert sorted(await take_out(10, 20)) == [(0, 10, 0), (0, 10, 1), (20, 30, 0), (20, 30, 1)]
    loaded = await desk.db.run(ORG, lambda tx: on_call.load(tx, [(ORG, "s")], soon, soon + timedelta(hours=1)))
    kept = loaded[ORG, "s"].fixed_periods
    orders = {bool(each.shifts): {one.order for one in kept if bool(one.shifts) is bool(each.shifts)} for each in kept}
    assert [len(each) for each in orders.values()] == [1, 1], "both pieces of a period have its order"
    assert max(orders[True]) < min(orders[False])
    assert await take_out(0, 30) == []
