"""Since when, until when and what comes next are as `resolve` has them over a long stretch."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from tocsin_escalation.domain.schedules import questions
from tocsin_escalation.domain.schedules.model import ALWAYS, FOREVER, Schedule, Segment, Turn, Unit
from tocsin_escalation.domain.schedules.questions import HORIZONS, standing, uncut
from tocsin_escalation.domain.schedules.resolve import pieces, resolve
from tocsin_escalation.domain.schedules.words import tell

from tests.rounds import LONG
from tests.unit.escalation.schedules.random_schedules import random_schedule
from tests.unit.escalation.schedules.writing import MONTHLY, layer, override, utc


def test_standing_is_what_a_long_stretch_shows() -> None:
    # Each schedule is resolved over more than two years to compare with: 0.3 s each.
    for seed in range(80 if LONG else 8):
        schedule, since, until = random_schedule(Random(seed), 48)
        wide = resolve(schedule, since - HORIZONS[-1], until + HORIZONS[-1])
        for minute in range(since, until, 97):
            found = standing(schedule, minute)
            number = next(n for n, each in enumerate(wide) if each.start <= minute < each.end)
            here = wide[number]
            assert (found.segment.people, found.segment.sources) == (here.people, here.sources)
            if found.segment.start != ALWAYS:
                assert found.segment.start == here.start
            if found.segment.end != FOREVER:
                assert found.segment.end == here.end
            if found.next:
                following = next(each for each in wide[number + 1 :] if each.people)
                assert (found.next.start, found.next.people) == (following.start, following.people)


def test_a_month_has_an_end_and_a_year_is_open() -> None:
    month = standing(Schedule("x", "UTC", (layer("ana", "ben", turn=MONTHLY),)), utc("2026-01-20 00:00"))
    assert (month.segment.start, month.segment.end) == (utc("2026-01-05 09:00"), utc("2026-02-05 09:00"))
    assert month.next is not None
    assert month.next.people == ("ben",)
    year = standing(Schedule("x", "UTC", (layer("ana", turn=Turn(Unit.MONTH, 12)),)), utc("2026-06-01 00:00"))
    assert (year.segment.start, year.segment.end, year.next) == (ALWAYS, FOREVER, None)


def test_in_words() -> None:
    ill = override("2026-01-06 00:00", "2026-01-07 00:00", "ben", "ana")
    schedule = Schedule("web", "UTC", (layer("ana", "ben"),), (ill,), unusable=frozenset({"cem"}))
    assert tell("web", standing(schedule, utc("2026-01-05 10:00")).segment) == (
        "schedules/web has users/ana on call until 2026-01-06 00:00 UTC (turn 0 of layer layer)"
    )
    assert "(overrides/override-0)" in tell("web", standing(schedule, utc("2026-01-06 10:00")).segment)
    gap = standing(schedule, utc("2026-01-01 00:00")).segment
    assert tell("web", gap) == "schedules/web has a gap: nobody is on call until 2026-01-05 09:00 UTC"


def test_who_is_on_call_now_is_told_without_a_look_at_the_weeks_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def counting(schedule: Schedule, since: int, until: int) -> Iterator[Segment]:
        nonlocal asked
        for piece in pieces(schedule, since, until):
            asked += 1
            yield piece

    monkeypatch.setattr(questions, "pieces", counting)
    hourly = Schedule("x", "UTC", (layer("ana", "ben", turn=Turn(Unit.HOUR, 1)),))
    found = standing(hourly, utc("2026-01-20 10:30"))
    assert (found.segment.start, found.segment.end) == (utc("2026-01-20 10:00"), utc("2026-01-20 11:00"))
    assert found.next is not None
    assert found.next.end == utc("2026-01-20 12:00")
    assert asked < 2 * 24, "a day back and two hours ahead, of ten weeks"


def test_what_reaches_beyond_a_stretch_is_told_whole() -> None:
    # Against a resolve of ten weeks more: 0.1 s each.
    for seed in range(8):
        schedule, since, until = random_schedule(Random(seed), 48)
        wide = resolve(schedule, since - HORIZONS[-1], until + HORIZONS[-1])
        within = [each for each in wide if each.end > since and each.start < until]
        found = uncut(schedule, since, until)
        assert [(each.people, each.sources) for each in found] == [(each.people, each.sources) for each in within]
        edges = [
            ALWAYS if within[0] is wide[0] else within[0].start,
            FOREVER if within[-1] is wide[-1] else within[-1].end,
        ]
        assert [found[0].start, found[-1].end] == edges
        assert all(one.end == other.start for one, other in pairwise(found))
