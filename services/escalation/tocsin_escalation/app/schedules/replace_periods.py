"""In one transaction, cuts a time out of the fixed periods of a schedule, and makes new ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import invalid

from tocsin_escalation.app.people import targets
from tocsin_escalation.app.schedules import planned
from tocsin_escalation.app.schedules.overrides import MOST_SHIFTS, create_fixed_periods
from tocsin_escalation.app.schedules.schedules import must
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.periods import pieces_without
from tocsin_escalation.store.schedules import fixed_periods
from tocsin_escalation.store.schedules.fixed_periods import FixedPeriodRow


@dataclass(frozen=True, slots=True)
class Replaced:
    """`before`: those that were changed, as they were. `remaining`: the parts of them that are left, by start. `made`: the new
    ones."""

    before: Sequence[FixedPeriodRow]
    remaining: Sequence[FixedPeriodRow]
    made: Sequence[FixedPeriodRow]


async def replace_periods(
    tx: Tx, schedule_id: str, since: datetime, until: datetime, wanted: Sequence[FixedPeriodRow]
) -> Replaced:
    """Raises SCHEDULE_NOT_FOUND and USER_NOT_FOUND (as INVALID_ARGUMENT), INVALID_FIELD, LIMIT_REACHED."""
    for number, row in enumerate(wanted):
        if row.schedule_id != schedule_id:
            raise invalid(
                f"fixed_periods[{number}].schedule", f"must be schedules/{schedule_id}, as that of the request"
            )
    await targets.check(tx, [("schedule", Target(TargetKind.SCHEDULE, schedule_id))])
    await must(tx, schedule_id, lock=True)
    now = planned.minute(await tx.now())
    if until <= now:
        raise invalid("end_time", "must lie in the future: what was cannot be changed")
    if until <= since:
        raise invalid("end_time", "must be later than start_time")
    before = await fixed_periods.within(tx, schedule_id, max(since, now), until)
    gone = minute_of(max(since, now)), minute_of(until)
    remaining = list[FixedPeriodRow]()
    for row in before:
        pieces = pieces_without((minute_of(row.start_time), minute_of(row.end_time)), row.shifts, gone)
        remaining += await fixed_periods.cut(tx, row.id, pieces)
    made = await create_fixed_periods(tx, wanted) if wanted else []
    # A period that was cut in two counts twice.
    if await fixed_periods.TABLE.waiting(tx, schedule_id) > planned.MOST:
        raise planned.too_many(schedule_id, fixed_periods.TABLE.table, planned.MOST)
    if await fixed_periods.shifts_waiting(tx, schedule_id) > MOST_SHIFTS:
        raise planned.too_many(schedule_id, "shifts of fixed periods", MOST_SHIFTS)
    return Replaced(before, sorted(remaining, key=lambda row: (row.start_time, row.id)), made)
