"""Two users swap stretches of time on call."""

from dataclasses import replace
from random import Random

import pytest
from tocsin_escalation.domain.schedules.model import FixedPeriod, Override, Schedule, Scope, SourceKind
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.swaps import NotPossible, Replacement, SwapStretch, exchange
from tocsin_escalation.domain.schedules.words import tell

from tests.unit.escalation.schedules.random_schedules import random_schedule
from tests.unit.escalation.schedules.writing import DAILY, layer, override, shift, told, utc

WEB = Schedule("web", "UTC", (layer("ana", "ben", "cem", turn=DAILY, start="2026-01-05 00:00"),))
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (f"2026-01-{day:02} 00:00" for day in range(5, 10))


def gives(giver: str, taker: str, start: str = MONDAY, end: str = TUESDAY) -> SwapStretch:
    return SwapStretch(utc(start), utc(end), giver, taker)


def swapped(schedule: Schedule, *stretches: SwapStretch, swap: str = "s1") -> Schedule:
    made = exchange(schedule, *stretches)
    first = len(schedule.overrides)
    kept = tuple(
        Override(f"o{first + n}", each.start, each.end, Scope.PERSON, each.people, first + n, each.of, swap)
        for n, each in enumerate(made)
    )
    return replace(schedule, overrides=(*schedule.overrides, *kept))


def refusal(schedule: Schedule, *stretches: SwapStretch) -> str:
    with pytest.raises(NotPossible) as refused:
        exchange(schedule, *stretches)
    return str(refused.value)


def test_each_has_the_shift_of_the_other() -> None:
    schedule = swapped(WEB, gives("ana", "ben"), gives("ben", "ana", TUESDAY, WEDNESDAY))
    assert told(schedule, MONDAY, FRIDAY) == [
        "01-05 00:00 ben",
        "01-06 00:00 ana",
        "01-07 00:00 cem",
        "01-08 00:00 ana",
    ]
    [first, *_] = resolve(schedule, utc(MONDAY), utc(TUESDAY))
    assert first.sources[0].kind is SourceKind.SWAP
    assert tell("web", first).endswith("(swaps/s1 instead of users/ana)")


def test_a_part_of_a_shift_is_given_and_nothing_comes_back() -> None:
    schedule = swapped(WEB, gives("ana", "dora", "2026-01-05 18:00", "2026-01-05 20:00"))
    assert told(schedule, MONDAY, TUESDAY) == ["01-05 00:00 ana", "01-05 18:00 dora", "01-05 20:00 ana"]


def test_a_shift_that_came_by_a_swap_goes_on_by_another_one_and_comes_back_by_a_third() -> None:
    once = swapped(WEB, gives("ana", "ben"))
    twice = swapped(once, gives("ben", "cem"), swap="s2")
    assert told(twice, MONDAY, TUESDAY) == ["01-05 00:00 cem"]
    home = swapped(twice, gives("cem", "ana"), swap="s3")
    assert told(home, MONDAY, TUESDAY) == ["01-05 00:00 ana"]


def test_who_else_comes_in_by_the_same_override_stays() -> None:
    both = replace(WEB, overrides=(override(MONDAY, TUESDAY, "ben+cem", "ana", Scope.PERSON),))
    assert told(swapped(both, gives("cem", "dora")), MONDAY, TUESDAY) == ["01-05 00:00 ben+dora"]


def test_a_stretch_over_several_turns_is_one_override() -> None:
    alone = Schedule("web", "UTC", (layer("ana", turn=DAILY),))
    [made] = exchange(alone, gives("ana", "ben", "2026-02-05 00:00", "2026-02-09 00:00"))
    assert made == Replacement(utc("2026-02-05 00:00"), utc("2026-02-09 00:00"), "ana", ("ben",))


def test_what_cannot_change_hands_is_told() -> None:
    assert refusal(WEB, gives("ben", "ana")) == (
        "users/ben is not on call from 2026-01-05 00:00 UTC to 2026-01-06 00:00 UTC"
    )
    assert refusal(WEB, gives("ana", "cem", MONDAY, "2026-01-06 12:00")) == (
        "users/ana is not on call from 2026-01-06 00:00 UTC to 2026-01-06 12:00 UTC"
    )
    two = replace(WEB, layers=(layer("ana+ben", turn=DAILY),))
    assert "users/ben is on call as well" in refusal(two, gives("ana", "ben", TUESDAY, WEDNESDAY))
    away = replace(WEB, absences={"ben": ((utc(MONDAY), utc(TUESDAY)),)})
    assert "users/ben is away or disabled" in refusal(away, gives("ana", "ben"))
    assert "users/ben is away or disabled" in refusal(replace(WEB, unusable=frozenset({"ben"})), gives("ana", "ben"))
    period = FixedPeriod("p", utc(MONDAY), utc(TUESDAY), (shift(MONDAY, TUESDAY, "ana"),), 0)
    fixed = replace(WEB, fixed_periods=(period,))
    assert "fixedPeriods/p says who is on call" in refusal(fixed, gives("ana", "ben"))
    stands_in = replace(WEB, absences={"ana": ((utc(MONDAY), utc(TUESDAY)),)}, stand_in=True)
    assert "users/ben stands in for users/ana" in refusal(stands_in, gives("ben", "cem"))
    cut = replace(
        Schedule("web", "UTC", (layer("ana", turn=DAILY),)),
        overrides=tuple(
            override(f"2026-02-{day:02} 00:00", f"2026-02-{day + 1:02} 00:00", f"ana+x{day}", "ana", Scope.PERSON, day)
            for day in range(1, 25)
        ),
    )
    assert "may be of 20" in refusal(cut, gives("ana", "ben", "2026-02-01 00:00", "2026-02-25 00:00"))


def test_a_swap_changes_nothing_but_who_has_the_two_stretches() -> None:
    """Random schedules: minutes outside stay as they were, and inside one user stands where the other stood."""
    done = 0
    for seed in range(400):
        random = Random(seed)
        schedule, since, until = random_schedule(random, 72)
        segments = [each for each in resolve(schedule, since, until) if each.people]
        if not segments:
            continue
        segment = random.choice(segments)
        giver, taker = random.choice(segment.people), "zoe"
        try:
            after = swapped(schedule, SwapStretch(segment.start, segment.end, giver, taker))
        except NotPossible:
            continue
        done += 1
        before = {each.start: set(each.people) for each in resolve(schedule, since, until)}
        for each in resolve(after, since, until):
            was = before[max(start for start in before if start <= each.start)]
            inside = segment.start <= each.start < segment.end
            assert set(each.people) == ((was - {giver}) | {taker} if inside else was)
    assert done > 100
