"""The five common models of schedules, each told from its own documents, come out as they do there."""

from dataclasses import replace

from tocsin_escalation.domain.schedules.model import Counts, FixedPeriod, Mode, Schedule, Scope, Turn, Unit
from tocsin_escalation.domain.schedules.versions import Rollout, changed

from tests.unit.escalation.schedules.writing import (
    DAILY,
    EVERY_DAY,
    MON,
    SAT,
    SUN,
    THU,
    WED,
    WEEKLY,
    WORKDAYS,
    hours,
    layer,
    on_call,
    override,
    shift,
    told,
    utc,
)


def test_pagerduty_three_layers_with_restrictions_of_which_a_later_one_wins() -> None:
    base = layer("ana", "ben", id="1", rank=1, start="2026-03-02 09:00")
    nights = layer(
        "cem", "dora", id="2", rank=2, turn=DAILY, start="2026-03-02 22:00", windows=(hours(EVERY_DAY, 22, 6),)
    )
    weekend = layer("eva", id="3", rank=3, start="2026-03-02 09:00", windows=(hours(frozenset({SAT, SUN}), 0, 0),))
    schedule = Schedule("pd", "UTC", (base, nights, weekend))
    assert told(schedule, "2026-03-06 12:00", "2026-03-10 00:00") == [
        "03-06 12:00 ana",
        "03-06 22:00 cem",
        "03-07 00:00 eva",
        "03-09 00:00 cem",
        "03-09 06:00 ana",
        "03-09 09:00 ben",
        "03-09 22:00 dora",
    ]
    # Of several overrides the last created wins, over every layer.
    first = override("2026-03-07 08:00", "2026-03-07 20:00", "finn", order=1)
    last = override("2026-03-07 10:00", "2026-03-07 12:00", "ana", order=2)
    overridden = Schedule("pd", "UTC", schedule.layers, (last, first))
    assert told(overridden, "2026-03-07 00:00", "2026-03-08 00:00") == [
        "03-07 00:00 eva",
        "03-07 08:00 finn",
        "03-07 10:00 ana",
        "03-07 12:00 finn",
        "03-07 20:00 eva",
    ]
    # In time that no layer covers no user is on call.
    alone = Schedule("pd", "UTC", (nights,))
    assert on_call(alone, "2026-03-10 12:00") == "gap"


def test_goalert_rules_add_up_and_a_temporary_schedule_replaces_everything() -> None:
    rotation = layer(
        "ana", "ben", id="1", mode=Mode.ADD, turn=WEEKLY, start="2026-03-02 08:00", windows=(hours(WORKDAYS, 8, 18),)
    )
    always = layer("cem", id="2", mode=Mode.ADD, start="2026-03-02 08:00")
    temporary = FixedPeriod(
        "holidays",
        utc("2026-03-04 00:00"),
        utc("2026-03-05 00:00"),
        (shift("2026-03-04 06:00", "2026-03-04 12:00", "dora"), shift("2026-03-04 10:00", "2026-03-04 16:00", "eva")),
        order=0,
    )
    within = override("2026-03-04 08:00", "2026-03-04 20:00", "finn")
    schedule = Schedule("ga", "UTC", (rotation, always), (within,), (temporary,))
    assert told(schedule, "2026-03-03 08:00", "2026-03-05 20:00") == [
        "03-03 08:00 ana+cem",
        "03-03 18:00 cem",
        "03-04 00:00 gap",
        "03-04 06:00 dora",
        "03-04 10:00 dora+eva",
        "03-04 12:00 eva",
        "03-04 16:00 gap",
        "03-05 00:00 cem",
        "03-05 08:00 ana+cem",
        "03-05 18:00 cem",
    ]
    # A rotation turns while its rule sleeps: Ben has the second week although no user was on call at its beginning.
    assert on_call(schedule, "2026-03-10 09:00") == "ben+cem"


def test_goalert_overrides_replace_a_person_once_and_do_not_chain() -> None:
    both = layer("ana+ben", mode=Mode.ADD, start="2026-03-02 08:00")
    chain = (
        override("2026-03-03 00:00", "2026-03-04 00:00", "ben", "ana", Scope.PERSON, 0),
        override("2026-03-03 00:00", "2026-03-04 00:00", "cem", "ben", Scope.PERSON, 1),
    )
    for overrides in (chain, chain[::-1]):
        schedule = Schedule("ga", "UTC", (both,), overrides)
        assert on_call(schedule, "2026-03-03 12:00") == "ben+cem"
    removed = (override("2026-03-03 00:00", "2026-03-04 00:00", "-", "ana", Scope.PERSON),)
    assert on_call(Schedule("ga", "UTC", (both,), removed), "2026-03-03 12:00") == "ben"


def test_goalert_overrides_that_add_put_people_beside_those_on_call_by_then() -> None:
    turns = layer("ana", "ben", mode=Mode.ADD, turn=DAILY, start="2026-03-02 08:00")
    added = override("2026-03-02 12:00", "2026-03-03 12:00", "cem", scope=Scope.BESIDE)
    assert told(Schedule("ga", "UTC", (turns,), (added,)), "2026-03-02 08:00", "2026-03-04 08:00") == [
        "03-02 08:00 ana",
        "03-02 12:00 ana+cem",
        "03-03 08:00 ben+cem",
        "03-03 12:00 ben",
    ]
    empty = Schedule("ga", "UTC", (), (added,))
    assert on_call(empty, "2026-03-02 13:00") == "cem", "a gap is filled"
    on_purpose = Schedule("ga", "UTC", (layer("-", start="2026-03-02 08:00"),), (added,))
    assert on_call(on_purpose, "2026-03-02 13:00") == "cem"
    both = replace(turns, line_up=(("cem",),))
    assert on_call(Schedule("ga", "UTC", (both,), (added,)), "2026-03-02 13:00") == "cem", "nobody is there twice"


def test_who_comes_in_beside_others_is_replaced_by_what_was_created_later_and_by_nothing_else() -> None:
    turns = layer("ana", start="2026-03-02 08:00")
    beside = override("2026-03-02 12:00", "2026-03-03 12:00", "cem", scope=Scope.BESIDE, order=1)
    whole = override("2026-03-02 12:00", "2026-03-03 12:00", "ben", order=0)
    ill = override("2026-03-02 12:00", "2026-03-03 12:00", "dora", "cem", Scope.PERSON, order=0)
    for one, before, after in ((whole, "ben+cem", "ben"), (ill, "ana+cem", "ana+dora")):
        for order, expected in ((0, before), (2, after)):
            schedule = Schedule("web", "UTC", (turns,), (beside, replace(one, order=order)))
            assert on_call(schedule, "2026-03-02 13:00") == expected
    away = {"cem": ((utc("2026-03-02 00:00"), utc("2026-03-04 00:00")),)}
    assert on_call(Schedule("web", "UTC", (turns,), (beside,), absences=away), "2026-03-02 13:00") == "ana"


def test_opsgenie_rotations_with_time_restrictions_add_up_and_may_have_an_empty_place() -> None:
    weekday_and_time = hours(frozenset({MON}), 9, 18), hours(frozenset({WED}), 12, 13)
    support = layer("ana", "-", id="1", mode=Mode.ADD, turn=DAILY, start="2026-03-02 00:00", windows=weekday_and_time)
    # From Thursday 20:00 to Tuesday 08:00, as one restriction.
    long = layer(
        "cem", id="2", mode=Mode.ADD, start="2026-03-04 00:00", windows=(hours(frozenset({THU}), 20, 20 + 108),)
    )
    schedule = Schedule("og", "UTC", (support, long))
    assert told(schedule, "2026-03-02 00:00", "2026-03-13 00:00") == [
        "03-02 00:00 gap",
        "03-02 09:00 ana",
        "03-02 18:00 gap",
        "03-04 12:00 ana",
        "03-04 13:00 gap",
        "03-05 20:00 cem",
        "03-09 09:00 cem",
        "03-09 18:00 cem",
        "03-10 08:00 gap",
        "03-11 12:00 nobody",
        "03-11 13:00 gap",
        "03-12 20:00 cem",
    ]
    only_support = override("2026-03-04 12:00", "2026-03-04 13:00", "dora", "1", Scope.LAYER)
    assert on_call(Schedule("og", "UTC", schedule.layers, (only_support,)), "2026-03-04 12:30") == "dora"
    # An override of one rotation does not put anybody where the rotation is off.
    early = override("2026-03-04 08:00", "2026-03-04 13:00", "dora", "1", Scope.LAYER)
    assert on_call(Schedule("og", "UTC", schedule.layers, (early,)), "2026-03-04 08:30") == "gap"


def test_oncall_priorities_mask_equal_ones_stay_together_and_a_swap_exchanges_two_shifts() -> None:
    low = layer("ana", "ben", "cem", id="low", rank=0, turn=DAILY, start="2026-03-02 00:00")
    high = layer("dora", id="high", rank=1, turn=DAILY, start="2026-03-02 00:00", windows=(hours(EVERY_DAY, 10, 12),))
    equal = layer("eva", id="equal", rank=1, turn=DAILY, start="2026-03-02 00:00", windows=(hours(EVERY_DAY, 11, 13),))
    schedule = Schedule("oc", "UTC", (low, high, equal))
    assert told(schedule, "2026-03-02 00:00", "2026-03-03 00:00") == [
        "03-02 00:00 ana",
        "03-02 10:00 dora",
        "03-02 11:00 dora+eva",
        "03-02 12:00 eva",
        "03-02 13:00 ana",
    ]
    swap = (
        override("2026-03-02 00:00", "2026-03-03 00:00", "ben", "ana", Scope.PERSON, 0),
        override("2026-03-03 00:00", "2026-03-04 00:00", "ana", "ben", Scope.PERSON, 1),
    )
    swapped = Schedule("oc", "UTC", (low,), swap)
    assert told(swapped, "2026-03-02 00:00", "2026-03-05 00:00") == [
        "03-02 00:00 ben",
        "03-03 00:00 ana",
        "03-04 00:00 cem",
    ]


def test_incidentio_hand_overs_in_turn_working_hours_and_several_at_once() -> None:
    uneven = layer("ana", "ben", "-", mode=Mode.ADD, start="2026-03-02 09:00", turns=(DAILY, Turn(Unit.DAY, 3)))
    assert told(Schedule("io", "UTC", (uneven,)), "2026-03-02 09:00", "2026-03-16 09:00") == [
        "03-02 09:00 ana",
        "03-03 09:00 ben",
        "03-06 09:00 nobody",
        "03-07 09:00 ana",
        "03-10 09:00 ben",
        "03-11 09:00 nobody",
        "03-14 09:00 ana",
        "03-15 09:00 ben",
    ]
    two = layer("ana", "ben", "cem", concurrent=2, mode=Mode.ADD, start="2026-03-02 09:00")
    assert told(Schedule("io", "UTC", (two,)), "2026-03-02 09:00", "2026-03-23 09:00") == [
        "03-02 09:00 ana+ben",
        "03-09 09:00 ben+cem",
        "03-16 09:00 cem+ana",
    ]


def test_incidentio_a_new_line_up_comes_in_now_after_the_shift_or_after_the_round() -> None:
    before = layer("ana", "ben", "cem", start="2026-03-02 09:00")
    after = replace(before, line_up=(("dora",), *before.line_up))
    expected = {
        Rollout.NOW: "ben cem dora ana ben",
        Rollout.AFTER_SHIFT: "ben cem dora ana ben",
        Rollout.AFTER_ROUND: "ben cem dora ana ben",
    }
    removed = replace(before, line_up=(("dora",), ("cem",), ("ana",)))
    without_ben = {
        Rollout.NOW: "cem ana dora cem ana",
        Rollout.AFTER_SHIFT: "ben cem ana dora cem",
        Rollout.AFTER_ROUND: "ben cem dora cem ana",
    }
    weeks = ["2026-03-11 12:00", "2026-03-16 12:00", "2026-03-23 12:00", "2026-03-30 12:00", "2026-04-06 12:00"]
    for wanted, answers in ((after, expected), (removed, without_ben)):
        for rollout, people in answers.items():
            layers = changed((before,), (wanted,), utc("2026-03-11 10:00"), rollout)
            schedule = Schedule("io", "UTC", layers)
            assert " ".join(on_call(schedule, each) for each in weeks) == people, rollout
            assert on_call(schedule, "2026-03-03 12:00") == "ana", "the past stays"
            assert on_call(schedule, "2026-03-11 09:59") == "ben", "the past stays"


def test_turns_that_count_only_covered_time_go_on_after_the_weekend() -> None:
    office = (hours(WORKDAYS, 9, 17),)
    for counts, monday in ((Counts.COVERED, "finn"), (Counts.ELAPSED, "ben")):
        daily = layer(
            *("ana", "ben", "cem", "dora", "eva", "finn"),
            turn=DAILY,
            start="2026-03-02 00:00",
            windows=office,
            counts=counts,
        )
        schedule = Schedule("ou", "UTC", (daily,))
        assert on_call(schedule, "2026-03-06 10:00") == "eva"
        assert on_call(schedule, "2026-03-09 10:00") == monday
