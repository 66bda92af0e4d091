"""Overrides, fixed periods and absences: changes beside the turns of a schedule."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import invalid

from tocsin_escalation.app.people import targets
from tocsin_escalation.app.schedules import planned
from tocsin_escalation.app.schedules.schedules import must
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Scope
from tocsin_escalation.domain.schedules.versions import current
from tocsin_escalation.store.schedules import absences, fixed_periods, overrides
from tocsin_escalation.store.schedules.absences import AbsenceRow
from tocsin_escalation.store.schedules.fixed_periods import FixedPeriodRow
from tocsin_escalation.store.schedules.overrides import OverrideRow

MOST_SHIFTS: Final = 1500
"""Of the fixed periods of one schedule that have not ended: three a day for the 400 days that can be planned. Resolving the
schedule handles each of them at each boundary, so without a limit one call could take minutes."""


async def create_override(tx: Tx, row: OverrideRow, field: str = "override") -> OverrideRow:
    """A new override. Raises SCHEDULE_NOT_FOUND, USER_NOT_FOUND (as INVALID_ARGUMENT), INVALID_FIELD, LIMIT_REACHED.

    `field` holds it in the request.
    """
    named = [(f"{field}.schedule", Target(TargetKind.SCHEDULE, row.schedule_id)), *_users(field, row.users)]
    if row.scope is Scope.PERSON:
        named.append((f"{field}.user", Target(TargetKind.USER, row.replaced)))
    if row.scope is Scope.BESIDE and not row.users:
        raise invalid(f"{field}.users", "must name at least one user, who is on call in addition")
    await targets.check(tx, named)
    schedule = await must(tx, row.schedule_id, lock=True)
    if row.scope is Scope.LAYER and row.replaced not in {layer.id for layer in current(schedule.layers)}:
        raise invalid(f"{field}.layer_id", f"schedules/{schedule.id} has no layer {row.replaced}")
    start = await planned.begin(tx, overrides.TABLE, row, row.schedule_id, field)
    return await overrides.insert(tx, replace(row, start_time=start))


async def create_overrides(tx: Tx, rows: Sequence[OverrideRow]) -> list[OverrideRow]:
    """Several, in their order. Raises as `create_override` does."""
    await _lock_all(tx, "overrides", [row.schedule_id for row in rows])
    return [await create_override(tx, row, f"overrides[{number}]") for number, row in enumerate(rows)]


async def create_fixed_period(tx: Tx, row: FixedPeriodRow, field: str = "fixed_period") -> FixedPeriodRow:
    """A new fixed period. Raises SCHEDULE_NOT_FOUND, USER_NOT_FOUND (as INVALID_ARGUMENT), INVALID_FIELD, LIMIT_REACHED.

    `field` holds it in the request.
    """
    named = [(f"{field}.schedule", Target(TargetKind.SCHEDULE, row.schedule_id))]
    first, last = minute_of(row.start_time), minute_of(row.end_time)
    for number, shift in enumerate(row.shifts):
        path = f"{field}.shifts[{number}]"
        named += _users(path, shift.people)
        if not shift.start < shift.end:
            raise invalid(f"{path}.end_time", "must be later than start_time")
        if shift.start < first or shift.end > last:
            raise invalid(f"{path}.start_time", "the shift must lie within the period")
    await targets.check(tx, named)
    await must(tx, row.schedule_id, lock=True)
    start = await planned.begin(tx, fixed_periods.TABLE, row, row.schedule_id, field)
    if await fixed_periods.shifts_waiting(tx, row.schedule_id) + len(row.shifts) > MOST_SHIFTS:
        raise planned.too_many(row.schedule_id, "shifts of fixed periods", MOST_SHIFTS)
    return await fixed_periods.insert(tx, replace(row, start_time=start))


async def create_fixed_periods(tx: Tx, rows: Sequence[FixedPeriodRow]) -> list[FixedPeriodRow]:
    """Several, in their order. Raises as `create_fixed_period` does."""
    await _lock_all(tx, "fixed_periods", [row.schedule_id for row in rows])
    return [await create_fixed_period(tx, row, f"fixed_periods[{number}]") for number, row in enumerate(rows)]


async def _lock_all(tx: Tx, field: str, ids: Sequence[str]) -> None:
    """Locks these schedules by id, not in the order of the request, so that two requests at once cannot deadlock."""
    named = [(f"{field}[{number}].schedule", Target(TargetKind.SCHEDULE, id)) for number, id in enumerate(ids)]
    await targets.check(tx, named)
    for id in sorted(set(ids)):
        await must(tx, id, lock=True)


async def create_absence(tx: Tx, row: AbsenceRow) -> AbsenceRow:
    """A new absence. Raises USER_NOT_FOUND (as INVALID_ARGUMENT), INVALID_FIELD, LIMIT_REACHED."""
    await targets.check(tx, [("absence.user", Target(TargetKind.USER, row.user_id))])
    start = await planned.begin(tx, absences.TABLE, row, row.user_id, "absence")
    return await absences.insert(tx, replace(row, start_time=start))


def _users(path: str, users: Sequence[str]) -> list[tuple[str, Target]]:
    return [(f"{path}.users[{number}]", Target(TargetKind.USER, user)) for number, user in enumerate(users)]
