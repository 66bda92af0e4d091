"""Paging asks a schedule for one minute, and looks ahead with bounded work: no schedule that can be written holds up the others."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from tocsin_escalation.domain.on_call import on_call_at
from tocsin_escalation.domain.schedules import layers, resolve
from tocsin_escalation.domain.schedules.checks import too_much, too_much_together
from tocsin_escalation.domain.schedules.model import FOREVER, Layer, Mode, Schedule, Segment, Turn, Unit, Window
from tocsin_escalation.domain.schedules.paging import WORK, WorkBudget, now
from tocsin_escalation.domain.schedules.questions import standing
from tocsin_escalation.domain.schedules.work import COMING, MOST, MOST_TOGETHER, coming

from tests.unit.escalation.schedules.random_schedules import random_schedule
from tests.unit.escalation.schedules.writing import layer, utc

NOW = utc("2026-01-07 10:00")


def dense(*, concurrent: int, **more: Any) -> Schedule:
    """Ten layers that add up, each with turns of an hour, the longest line-up and 50 windows a day."""
    line_up = tuple(tuple(f"u0-{place}-{i}" for i in range(2)) for place in range(50))
    windows = tuple(Window(frozenset(range(7)), 28 * number, 20) for number in range(50))
    layers = tuple(
        Layer(
            f"l{number}",
            (Turn(Unit.HOUR, 1),),
            anchor=utc("2026-01-05 00:00") + number,
            line_up=line_up,
            zone="UTC",
            mode=Mode.ADD,
            windows=windows,
            concurrent=concurrent,
        )
        for number in range(10)
    )
    return Schedule("dense", "UTC", layers, **more)


@pytest.fixture
def dealt(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many people were dealt, by the pieces that were made."""
    found: list[int] = []
    segment = resolve._segment

    def counting(start: int, end: int, slots: tuple[Any, ...], schedule: Schedule) -> Segment:
        found.append(len(slots) + 1)
        return segment(start, end, slots, schedule)

    monkeypatch.setattr(resolve, "_segment", counting)
    return found


@pytest.mark.parametrize("concurrent", [1, 5, 50])
def test_a_dense_schedule_costs_no_more_than_its_budget(concurrent: int, dealt: list[int]) -> None:
    found = on_call_at(dense(concurrent=concurrent), NOW)
    assert found.users
    assert sum(dealt) <= 2 * WORK


def test_a_dense_schedule_whose_people_are_all_gone_costs_no_more_either(dealt: list[int]) -> None:
    gone = frozenset(f"u0-{place}-{i}" for place in range(50) for i in range(2))
    found = on_call_at(dense(concurrent=50, unusable=gone), NOW)
    assert found.gap
    assert sum(dealt) <= 2 * WORK


def test_schedules_of_one_transaction_share_what_is_left(dealt: list[int]) -> None:
    work = WorkBudget(WORK)
    for _ in range(5):
        on_call_at(dense(concurrent=5), NOW, work)
    assert work.left >= 0
    assert sum(dealt) <= 2 * WORK


def test_what_one_schedule_uses_up_shortens_no_ordinary_one() -> None:
    work = WorkBudget(0)
    heavy = now(dense(concurrent=50), NOW, work)
    assert heavy.segment.people
    week = now(Schedule("web", "UTC", (layer("ana", "ben"),)), NOW, work)
    assert (week.segment.people, week.segment.end) == (("ana",), utc("2026-01-12 09:00"))
    coming = now(Schedule("api", "UTC", (layer("ana", start="2026-02-02 09:00"),)), NOW, work)
    assert coming.next is not None
    assert (coming.next.people, coming.next.start) == (("ana",), utc("2026-02-02 09:00"))


def test_closed_versions_of_layers_cost_nothing(dealt: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tuple(
        replace(each, id=f"{each.id}-{n}", until=NOW) for n in range(5) for each in dense(concurrent=50).layers
    )
    with_them = Schedule("web", "UTC", (*closed, layer("ana", "ben")))
    found, alone = on_call_at(with_them, NOW), on_call_at(Schedule("web", "UTC", (layer("ana", "ben"),)), NOW)
    assert found == alone
    assert sum(dealt) < 100
    walked: list[str] = []
    spans = layers.spans

    def recording(each: Layer, *stretch: int) -> Any:
        walked.append(each.id)
        return spans(each, *stretch)

    monkeypatch.setattr(resolve, "spans", recording)
    resolve.resolve(with_them, NOW, NOW + 1)
    assert walked == ["layer"]


@pytest.mark.parametrize("concurrent", [1, 5, 50])
def test_a_schedule_whose_coming_days_cost_too_much_is_refused_with_the_rule_and_what_to_do(concurrent: int) -> None:
    all_ = dense(concurrent=concurrent).layers
    problem = too_much(all_)
    assert problem is not None
    field, text = problem
    assert field == "layers"
    assert f"{coming(all_)} units of work, and may be {MOST} at most" in text
    assert "use longer turns" in text
    assert too_much(all_, all_) is None, "another name for one that is there already"
    assert too_much(all_, all_[1:]) is not None, "one more layer"
    assert too_much(all_[1:], all_) is None, "one layer less, although it is still too much"


def test_what_is_counted_is_what_is_done(dealt: list[int]) -> None:
    """The rule refuses by arithmetic alone. What resolving costs is never much more, so that what passes is bounded."""
    for seed in range(60):
        schedule, since, _ = random_schedule(Random(seed), 48)
        schedule = Schedule("web", schedule.zone, schedule.layers)
        dealt.clear()
        resolve.resolve(schedule, since, since + COMING)
        assert sum(dealt) <= 2 * coming(schedule.layers) + 10, seed


class Counted(int):
    """A minute that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) < int(other)

    def __le__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) <= int(other)

    def __gt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) > int(other)


def test_absences_are_looked_through_once_and_not_for_each_person_who_may_step_in() -> None:
    line_up = tuple(tuple(f"u{place}-{i}" for i in range(20)) for place in range(5))
    crowd = tuple(
        Layer(f"l{n}", (Turn(Unit.WEEK, 1),), utc("2026-01-05 00:00"), line_up, "UTC", mode=Mode.ADD) for n in range(10)
    )
    users = [user for group in line_up for user in group]
    earlier = [(Counted(NOW - 400 + 2 * n), Counted(NOW - 399 + 2 * n)) for n in range(199)]
    absences = {user: (*earlier, (Counted(NOW - 1), Counted(NOW + 1))) for user in users}
    Counted.compared = 0
    [here] = resolve.resolve(Schedule("web", "UTC", crowd, absences=absences, stand_in=True), NOW, NOW + 1)
    assert (here.people, len(here.away)) == ((), 20)
    assert Counted.compared <= 5 * len(users) * 200


def test_nobody_on_purpose_has_a_place_like_a_person() -> None:
    nobody = tuple(replace(each, line_up=((),) * 50) for each in dense(concurrent=50).layers)
    assert too_much(nobody) is not None


def test_large_schedules_that_people_really_have_are_taken() -> None:
    regions = tuple(
        replace(
            layer(*(f"u{n}" for n in range(20)), id=f"r{number}", turns=(Turn(Unit.HOUR, 8),)),
            mode=Mode.ADD,
            concurrent=2,
            windows=tuple(Window(frozenset(range(5)), start * 60, 240) for start in (9, 14)),
        )
        for number in range(10)
    )
    assert too_much(regions) is None
    assert too_much_together({f"s{n}": coming(regions) for n in range(20)}) == ""


def test_a_policy_whose_schedules_cost_too_much_together_is_told_which_are_the_largest() -> None:
    work = {f"s{n}": MOST for n in range(5)}
    assert too_much_together(work) == ""
    told = too_much_together({**work, "tiny": 1, "huge": MOST + 1})
    assert f"the 7 schedules that the policy names are {MOST_TOGETHER + MOST + 2} units of work" in told
    assert told.endswith(f"schedules/huge with {MOST + 1}, schedules/s0 with {MOST}, schedules/s1 with {MOST}")


def test_paging_and_lists_say_the_same() -> None:
    for seed in range(60):
        schedule, since, until = random_schedule(Random(seed), 48)
        for minute in range(since, until, 397):
            wide, found = standing(schedule, minute), now(schedule, minute, WorkBudget())
            assert (found.segment.people, found.segment.sources) == (wide.segment.people, wide.segment.sources)
            assert found.segment.coverage is wide.segment.coverage
            if FOREVER not in (found.segment.end, wide.segment.end):
                assert found.segment.end == wide.segment.end
            if found.next and wide.next:
                assert (found.next.start, found.next.people) == (wide.next.start, wide.next.people)
