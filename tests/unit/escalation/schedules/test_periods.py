"""A stretch of time that is taken out of fixed periods."""

from dataclasses import replace
from random import Random

from tocsin_escalation.domain.schedules.model import FixedPeriod, FixedShift, Schedule
from tocsin_escalation.domain.schedules.periods import Piece, pieces_without
from tocsin_escalation.domain.schedules.resolve import resolve

from tests.unit.escalation.schedules.random_schedules import random_schedule

SHIFTS = (FixedShift(0, 10, ("ana",)), FixedShift(10, 20, ("ben",)), FixedShift(5, 15, ("cem",)))


def test_what_is_left_of_a_period() -> None:
    def left(*gone: int) -> list[Piece]:
        return pieces_without((0, 20), SHIFTS, (gone[0], gone[1]))

    assert left(0, 20) == left(-5, 25) == []
    assert left(30, 40) == left(20, 25) == [Piece(0, 20, SHIFTS)]
    assert left(12, 30) == [Piece(0, 12, (SHIFTS[0], FixedShift(10, 12, ("ben",)), FixedShift(5, 12, ("cem",))))]
    assert left(7, 12) == [
        Piece(0, 7, (FixedShift(0, 7, ("ana",)), FixedShift(5, 7, ("cem",)))),
        Piece(12, 20, (FixedShift(12, 20, ("ben",)), FixedShift(12, 15, ("cem",)))),
    ]


def test_layers_count_again_within_it_and_nothing_else_changes() -> None:
    tried = 0
    for seed in range(400):
        random = Random(seed)
        schedule, since, until = random_schedule(random, 6)
        if not schedule.fixed_periods:
            continue
        tried += 1
        start = random.randint(since - 60, until - 1)
        gone = start, start + random.randint(1, until - since + 60)
        after = replace(
            schedule, fixed_periods=tuple(each for one in schedule.fixed_periods for each in cut(one, gone))
        )
        bare = replace(schedule, fixed_periods=())
        for minute in range(since, until, 7):
            expected = bare if gone[0] <= minute < gone[1] else schedule
            assert who(after, minute) == who(expected, minute), (seed, minute)
    assert tried > 100


def cut(period: FixedPeriod, gone: tuple[int, int]) -> list[FixedPeriod]:
    """The pieces count as the period did among the others."""
    pieces = pieces_without((period.start, period.end), period.shifts, gone)
    return [replace(period, start=each.start, end=each.end, shifts=each.shifts) for each in pieces]


def who(schedule: Schedule, minute: int) -> tuple[object, ...]:
    [found] = resolve(schedule, minute, minute + 1)
    return found.people, found.coverage, found.sources, found.away
