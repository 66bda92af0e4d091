"""The work of resolving a schedule, counted and not measured: it is the same on every machine.

One unit is one person in one piece of a schedule; a processor handles about two million in a second.
"""

from collections.abc import Iterable
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY, WEEK
from tocsin_escalation.domain.schedules.model import Layer, Schedule

COMING: Final = 8 * DAY
"""Minutes for which the work of a schedule is counted when it is written."""
MOST: Final = 200_000
"""The work of one schedule for the coming days. Ten layers with turns of an hour and a window a day each cost 60,000."""
MOST_TOGETHER: Final = 1_000_000
"""The same of all schedules that one policy names."""


def coming(layers: Iterable[Layer]) -> int:
    """The work of the coming days of a schedule with these layers and no absences."""
    schedule = Schedule("", "", tuple(layers))
    return spans(schedule, COMING) * weight(schedule) + sum(
        len(group) for each in schedule.layers for group in each.line_up
    )


def weight(schedule: Schedule) -> int:
    """The work of one piece: all its people, and for those who are away all who may step in."""
    people = 1 + len(schedule.overrides) + sum(1 + len(period.shifts) for period in schedule.fixed_periods)
    people += sum(max((len(shift.people) for shift in each.shifts), default=0) for each in schedule.imported)
    for layer in schedule.layers:
        # A turn without a user on purpose has a place like a person.
        groups = [max(len(group), 1) for group in layer.line_up]
        line_up, largest = sum(groups), max(groups, default=0)
        on_call = min(line_up, largest * layer.concurrent) + 1
        steps_in = schedule.stand_in and (schedule.absences or schedule.unusable)
        people += on_call * line_up if steps_in else on_call
    return people


def spans(schedule: Schedule, minutes: int) -> int:
    """About how many pieces layers, absences and plans make of a stretch of this length."""
    others = len(schedule.overrides) + sum(1 + len(period.shifts) for period in schedule.fixed_periods)
    others += sum(len(each.shifts) for each in schedule.imported)
    return others + sum(map(len, schedule.absences.values())) + sum(_cuts(each, minutes) for each in schedule.layers)


def _cuts(layer: Layer, minutes: int) -> int:
    days = minutes // DAY + 1
    # Windows of a week that began before count as well.
    windows = (len(layer.windows) or (layer.holidays is not None)) * (days + WEEK // DAY)
    cycle = sum(turn.months * 28 * DAY + turn.days * DAY + turn.hours * 60 for turn in layer.turns)
    return 1 + windows + minutes * len(layer.turns) // max(cycle, 1)
