"""`resolve` and a slow walk through every minute agree on schedules at random."""

import os
from itertools import pairwise
from random import Random

import pytest
from tocsin_escalation.domain.schedules.resolve import resolve

from tests.unit.escalation.schedules.oracle import Oracle
from tests.unit.escalation.schedules.random_schedules import random_schedule

SCHEDULES = int(os.environ.get("FUZZ_SCHEDULES", "400"))
SEED = int(os.environ.get("FUZZ_SEED", "9"))
PARTS = 20
"""Each a test of its own, so that `make fuzz-schedules` uses every core."""


@pytest.mark.parametrize("part", range(PARTS))
def test_every_minute_of_schedules_at_random(part: int) -> None:
    for number in range(part, SCHEDULES, PARTS):
        seed = f"{SEED}/{number}"
        # Most stretches are short, so that many schedules fit into the time; a few are days long.
        schedule, since, until = random_schedule(Random(seed), 72 if number % 50 == 0 else 3)
        oracle = Oracle(schedule, since, until)
        segments = resolve(schedule, since, until)
        assert segments[0].start == since, seed
        assert segments[-1].end == until, seed
        for one, other in pairwise(segments):
            assert one.start < one.end == other.start, seed
        for segment in segments:
            found = (frozenset(segment.people), segment.coverage.value)
            for minute in range(segment.start, segment.end):
                assert oracle.at(minute) == found, f"{seed} at {minute}: {schedule}"
