"""A change of a schedule never changes the past, nor who is on call today unless that is asked for."""

from dataclasses import replace
from random import Random

import pytest
from tocsin_escalation.domain.schedules.model import Counts, Layer, Schedule, Turn, Unit
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.versions import KEPT, Rollout, begins, changed, current

from tests.unit.escalation.schedules.writing import DAILY, WORKDAYS, hours, layer, on_call, utc

NOW = utc("2026-03-11 10:00")
BEFORE = layer("ana", "ben", "cem", start="2026-03-02 09:00")


@pytest.mark.parametrize("seed", range(60))
def test_adding_and_removing_people_changes_neither_the_past_nor_today(seed: int) -> None:
    random = Random(seed)
    people = ["ana", "ben", "cem", "dora", "eva"]
    line_up = random.sample(people, random.randint(1, 4))
    one = layer(
        *line_up,
        turn=Turn(random.choice((Unit.DAY, Unit.WEEK, Unit.MONTH)), random.randint(1, 2)),
        start="2026-01-31 09:00",
        windows=random.choice(((), (hours(WORKDAYS, 9, 17),))),
        counts=random.choice(list(Counts)),
    )
    more = [*line_up]
    more.insert(random.randint(0, len(more)), "new")
    if random.random() < 0.5:
        gone = random.choice([each for each in more if each != "new"])
        more.remove(gone)
    wanted = replace(one, line_up=tuple((user,) for user in more))
    now = NOW + random.randint(0, 60 * 24 * 20)
    before = Schedule("x", "UTC", (one,))
    for rollout in Rollout:
        after = Schedule("x", "UTC", changed((one,), (wanted,), now, rollout))
        past = [[(s.start, s.end, s.people) for s in resolve(each, now - 60_000, now)] for each in (before, after)]
        assert past[0] == past[1]
        today = resolve(before, now, now + 1)[0].people
        if rollout is not Rollout.NOW or set(today) <= set(more):
            assert resolve(after, now, now + 1)[0].people == today, rollout
        later = {user for segment in resolve(after, now + 500_000, now + 1_500_000) for user in segment.people}
        assert later == set(more)


def test_a_change_that_has_not_come_in_yet_can_be_changed_and_taken_back() -> None:
    second = changed((BEFORE,), (replace(BEFORE, line_up=(("dora",),)),), NOW, Rollout.AFTER_SHIFT)
    third = changed(second, (replace(BEFORE, line_up=(("eva",),)),), NOW + 60, Rollout.NOW)
    assert on_call(Schedule("x", "UTC", third), "2026-03-11 12:00") == "eva"
    assert len(third) == 2
    back = changed(second, (BEFORE,), NOW + 60, Rollout.AFTER_SHIFT)
    assert [on_call(Schedule("x", "UTC", back), f"2026-03-{day} 12:00") for day in (11, 16, 23)] == [
        "ben",
        "cem",
        "ana",
    ]


def test_saving_what_is_there_changes_nothing_but_the_name() -> None:
    once = changed((BEFORE,), (replace(BEFORE, line_up=(("dora",),)),), NOW, Rollout.AFTER_SHIFT)
    again = changed(once, current(once), NOW + 60, Rollout.NOW)
    assert again == once
    [renamed] = current(changed(once, (replace(current(once)[0], name="Nights"),), NOW, Rollout.NOW))
    assert renamed.name == "Nights"


def test_a_layer_that_goes_ends_now_and_one_that_never_began_leaves_no_trace() -> None:
    assert on_call(Schedule("x", "UTC", changed((BEFORE,), (), NOW, Rollout.NOW)), "2026-03-11 09:00") == "ben"
    gone = changed((BEFORE,), (), NOW, Rollout.AFTER_ROUND)
    assert on_call(Schedule("x", "UTC", gone), "2026-03-11 10:00") == "gap"
    assert current(gone) == ()
    future = layer("ana", start="2027-01-01 09:00")
    assert changed((future,), (), NOW, Rollout.NOW) == ()
    assert changed((future,), (BEFORE,), NOW, Rollout.NOW) == (BEFORE,)
    moved = changed((BEFORE,), (replace(BEFORE, anchor=future.anchor),), NOW, Rollout.NOW)
    assert on_call(Schedule("x", "UTC", moved), "2026-12-31 12:00") != "gap", (
        "the old one goes on until the new one begins"
    )


def test_a_layer_that_shall_end_before_the_change_comes_in_ends_then() -> None:
    ends = changed((BEFORE,), (replace(BEFORE, until=NOW + 60),), NOW, Rollout.AFTER_ROUND)
    assert on_call(Schedule("x", "UTC", ends), "2026-03-11 10:59") == "ben"
    assert on_call(Schedule("x", "UTC", ends), "2026-03-11 11:00") == "gap"


def test_old_versions_are_dropped_in_the_end() -> None:
    layers: tuple[Layer, ...] = (BEFORE,)
    for day in range(300):
        wanted = replace(BEFORE, turns=(DAILY,), line_up=((f"user-{day}",),))
        layers = changed(layers, (wanted,), NOW + day * 1440, Rollout.NOW)
    assert len(layers) <= 52
    layers = changed(layers, (replace(BEFORE, line_up=(("ana",),)),), NOW + 2 * KEPT, Rollout.NOW)
    assert len(layers) == 2
    assert begins(current(layers)[0]) == NOW + 2 * KEPT
