"""Low urgency at night waits for the morning, and a policy says what is urgent when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tocsin_escalation.app.foresight.check_policy import forecast
from tocsin_escalation.app.incidents.jobs import notification_job
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.conditions import Condition
from tocsin_escalation.domain.decision import NoteKind, Page
from tocsin_escalation.domain.escalation import State, TimerKind
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Edited,
    Escalated,
    OutcomeKind,
    Reassigned,
    RespondersAdded,
    Snoozed,
    Started,
    TimerPromoted,
    Unacknowledged,
)
from tocsin_escalation.domain.policy import OnCall, Policy
from tocsin_escalation.domain.simulate import simulate
from tocsin_escalation.domain.urgencies import Deferral, Urgency, UrgencyRule, deferral, urgency_at
from tocsin_escalation.store.incidents.escalations import _timer
from tocsin_escalation.store.people.policies import from_json, to_json

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, THREE, Story, level, policy, schedule, user
from tests.unit.escalation.schedules.writing import EVERY_DAY, MON, WORKDAYS, hours

NIGHT = Condition(windows=(hours(EVERY_DAY, 22, 7),), zone="Europe/Berlin")
QUIET = (UrgencyRule(Urgency.DEFERRED, replace(NIGHT, severities=(3, 4))),)
EVENING, LATE, MORNING = (datetime.fromisoformat(f"2026-03-0{at}+00:00") for at in ("1T20:50", "1T23:00", "2T06:00"))
"""22:00 in Berlin is 21:00 UTC then, and 07:00 is 06:00."""


def waits(*levels: object, rules: tuple[UrgencyRule, ...] = QUIET, **fields: object) -> Policy:
    return policy(*(levels or (level(user("ana")), level(user("ben")))), urgency_rules=rules, **fields)  # type: ignore[arg-type]


def begun(run_on: Policy, now: datetime = LATE, severity: int = 3) -> Story:
    story = Story(None)
    story.now = now
    story.run = replace(story.run, state=State.TRIGGERED, facts=replace(story.run.facts, severity=severity))
    story.take(Started(run_on))
    return story


def due(story: Story) -> datetime | None:
    return story.run.timer.due_time if story.run.timer else None


def fires(story: Story) -> None:
    """Its time comes."""
    assert story.run.timer is not None
    story.now = story.run.timer.due_time
    story.timer_fires()


def test_a_warning_of_the_night_pages_no_user_until_the_morning() -> None:
    story = begun(waits())
    assert (story.paged(), story.said()) == ([], [NoteKind.OPENED, NoteKind.LEVEL_DEFERRED])
    assert story.decisions[-1].notes[-1].message == (
        "level 1 waits until 2026-03-02 06:00 UTC: urgency rule 1 of the policy defers it"
    )
    assert (story.run.state, story.run.level, story.run.assignees, due(story)) == (State.TRIGGERED, 1, (), MORNING)
    fires(story)
    assert story.paged() == [(1, "ana")]
    assert due(story) == MORNING + 5 * MINUTE, "with the whole time to answer"


def test_what_is_urgent_does_not_wait() -> None:
    assert begun(waits(), severity=2).paged() == [(1, "ana")]


def test_a_level_that_would_begin_at_night_waits_and_a_user_paged_in_the_evening_may_answer() -> None:
    story = begun(waits(level(user("ana"), minutes=20), level(user("ben"))), EVENING)
    assert story.paged() == [(1, "ana")]
    fires(story)
    assert (story.paged(), story.run.level, due(story)) == ([], 2, MORNING)
    story.take(Acknowledged("users/ana"))
    assert story.run.state is State.ACKNOWLEDGED
    assert story.run.timer is None


def test_the_fallback_target_waits_too_and_a_repeat() -> None:
    story = begun(waits(level(user("ana"), minutes=20), fallback_target=user("dora")), EVENING)
    fires(story)
    assert (story.paged(), story.run.state, due(story)) == ([], State.TRIGGERED, MORNING)
    assert story.decisions[-1].notes[-1].message.startswith("nobody answered; the fallback target waits until")
    fires(story)
    assert story.run.state is State.EXHAUSTED
    assert [page.user for page in story._pages()] == ["dora"]
    story = begun(waits(level(user("ana"), minutes=20), repeat_count=1), EVENING)
    fires(story)
    assert (story.said(), story.run.repeat) == ([NoteKind.REPEATED, NoteKind.LEVEL_DEFERRED], 1)
    fires(story)
    assert story.paged() == [(1, "ana")]


def test_no_user_has_a_turn_at_night_and_the_level_begins_anew_in_the_morning() -> None:
    in_turn = replace(level(user("ana"), user("ben"), minutes=60), in_turn=True, turn_timeout=timedelta(minutes=15))
    story = begun(waits(in_turn), EVENING)
    first = story.page_of("ana")
    fires(story)
    assert (story.paged(), due(story)) == ([], MORNING)
    fires(story)
    assert [who for _, who in story.paged()] == ["ana"], "the turns that were taken are kept with the policy"
    assert story.page_of("ana") != first, "the same page would be sent no more"


def test_a_raised_severity_ends_the_wait_at_once() -> None:
    for raised in (AlertsAdded(2, 1, "down", 1), Edited("users/ben", severity=2)):
        story = begun(waits())
        story.take(raised)
        assert story.paged() == [(1, "ana")]
        assert story.run.repeat == 0
        assert due(story) == LATE + 5 * MINUTE
    story = begun(waits(), severity=4)
    story.take(AlertsAdded(2, 3, "slow", 1))
    assert story.paged() == [], "a warning waits as well"


def test_when_the_last_level_is_over_a_raise_pages_it_anew() -> None:
    story = begun(waits(level(user("ana"), minutes=20), fallback_target=user("dora")), EVENING)
    fires(story)
    story.take(AlertsAdded(2, 1, "down", 1))
    assert story.paged() == [(1, "ana")]
    assert due(story) == story.now + 20 * MINUTE


def test_what_a_person_asks_for_is_not_deferred() -> None:
    story = begun(waits())
    story.take(Escalated("users/ben"))
    assert story.paged() == [(1, "ana")], "the level that waits, not the one behind it"
    story = begun(waits())
    story.take(Escalated("users/ben", 2))
    assert story.paged() == [(2, "ben")]
    story = begun(waits())
    story.take(RespondersAdded("users/ben", (user("cem"),)))
    assert [page.user for page in story._pages()] == ["cem"]
    story = begun(waits())
    story.take(Reassigned("users/ben", (user("cem"),)))
    assert [who for _, who in story.paged()] == ["cem"]
    story = begun(waits())
    story.take(TimerPromoted("users/operator"))
    story.timer_fires()
    assert story.paged() == [(1, "ana")]


def test_an_incident_that_is_given_back_or_whose_snooze_ends_at_night_waits() -> None:
    story = begun(waits())
    story.take(Acknowledged("users/ana"))
    story.take(Unacknowledged("users/ana"))
    assert (story.paged(), due(story)) == ([], MORNING)
    story.take(Snoozed("users/ana", timedelta(hours=1)))
    fires(story)
    assert (story.paged(), due(story)) == ([], MORNING)
    fires(story)
    assert story.paged() == [(1, "ana")]


def test_a_failed_page_of_the_evening_does_not_wake_anybody() -> None:
    story = begun(waits(level(user("ana"), minutes=20), level(user("ben"))), EVENING)
    story.now = LATE - 110 * MINUTE
    story.page_ends("ana", OutcomeKind.FAILED, reason="no such number")
    assert (story.paged(), story.run.level, due(story)) == ([], 2, MORNING)


@pytest.mark.parametrize(
    ("severity", "at", "urgent"),
    [(3, NOON, None), (3, NOON + timedelta(days=1), True), (1, NOON, None), (1, LATE, False), (4, NOON, False)],
)
def test_the_policy_says_what_is_urgent_when(severity: int, at: datetime, urgent: bool | None) -> None:
    rules = (
        UrgencyRule(Urgency.HIGH, Condition((3,), (hours(WORKDAYS, 8, 18),), "UTC")),
        UrgencyRule(Urgency.LOW, replace(NIGHT, severities=(1,))),
        UrgencyRule(Urgency.LOW, Condition((4,))),
    )
    story = begun(waits(rules=rules), at, severity)
    [page] = [each for each in story.decisions[-1].commands if isinstance(each, Page)]
    assert page.urgent is urgent
    assert notification_job(story.run, page).urgency == {None: 0, True: 1, False: 2}[urgent]
    told = story.decisions[-1].notes[-1].message
    word = {None: "level 1: paging users/ana", True: "with high urgency (urgency rule 1)"}.get(
        urgent, "with low urgency"
    )
    assert word in told


def test_a_severity_that_changes_no_urgency_pages_no_user_anew() -> None:
    story = begun(waits(rules=(UrgencyRule(Urgency.HIGH),)), NOON)
    story.take(AlertsAdded(2, 1, "down", 1))
    assert story.paged() == []
    story = begun(waits(rules=(UrgencyRule(Urgency.LOW, Condition((3,))),)), NOON)
    story.take(AlertsAdded(2, 1, "down", 1))
    assert story.paged() == [(1, "ana")]


def test_the_first_rule_that_holds_decides() -> None:
    rules = (UrgencyRule(Urgency.HIGH, Condition((3,))), *QUIET)
    assert urgency_at(rules, 3, LATE) is Urgency.HIGH
    assert urgency_at(rules, 4, LATE) is Urgency.DEFERRED
    assert urgency_at(rules, 4, NOON) is Urgency.LOW
    assert urgency_at((), 2, NOON) is Urgency.HIGH


def test_the_wait_ends_with_the_weekend_or_never() -> None:
    week_end = Condition(windows=(hours(frozenset({5, 6}), 0, 0), hours(frozenset({MON}), 0, 9)), zone="UTC")
    sunday = datetime(2026, 3, 1, 10, tzinfo=UTC)
    rules = (UrgencyRule(Urgency.DEFERRED, week_end),)
    assert deferral(rules, 4, sunday) == Deferral(datetime(2026, 3, 2, 9, tzinfo=UTC), 1)
    assert deferral(rules, 4, sunday + timedelta(days=1)) is None
    always = (UrgencyRule(Urgency.LOW, Condition((1,))), UrgencyRule(Urgency.DEFERRED))
    assert deferral(always, 4, NOON) == Deferral(None, 2)
    assert deferral(always, 1, NOON) is None
    assert begun(waits(rules=always), NOON).paged() == [(1, "ana")], "rather somebody is paged than nobody"
    gone = (UrgencyRule(Urgency.DEFERRED, Condition(windows=NIGHT.windows, zone="Mars/Olympus")),)
    assert begun(waits(rules=gone), LATE).paged() == [(1, "ana")]


def test_through_the_change_of_the_clocks_the_morning_is_seven_on_the_wall() -> None:
    assert deferral(QUIET, 3, datetime(2026, 3, 28, 23, tzinfo=UTC)) == Deferral(
        datetime(2026, 3, 29, 5, tzinfo=UTC), 1
    )
    assert deferral(QUIET, 3, datetime(2026, 10, 24, 23, tzinfo=UTC)) == Deferral(
        datetime(2026, 10, 25, 6, tzinfo=UTC), 1
    )


def test_a_policy_that_waits_for_the_morning_is_not_replaced_by_the_fallback_policy() -> None:
    off = OnCall((), "schedules/web has a gap", True, MORNING, ("cem",))
    there = replace(EVERYBODY, schedules={"web": off})
    by_day = replace(
        level(schedule("web")), condition=Condition(windows=(hours(EVERY_DAY, 7, 22),), zone="Europe/Berlin")
    )
    day, other = waits(by_day), replace(THREE, id="fallback")
    assert choose("night", day, other, there, 3, LATE).policy == day
    assert choose("night", day, other, there, 1, LATE).policy == other


def test_a_simulation_and_a_check_show_the_wait() -> None:
    run = replace(Story(None).run, state=State.TRIGGERED)
    run = replace(run, facts=replace(run.facts, severity=3))
    plan = simulate(run, Started(waits()), LATE, lambda _: EVERYBODY, {})
    shown = [(step.note.kind, step.time) for step in forecast(LATE, plan).steps]
    assert shown == [
        (NoteKind.LEVEL_DEFERRED, LATE),
        (NoteKind.LEVEL_PAGED, MORNING),
        (NoteKind.LEVEL_PAGED, MORNING + 5 * MINUTE),
        (NoteKind.EXHAUSTED, MORNING + 10 * MINUTE),
    ]


def test_it_is_kept_as_it_was_written() -> None:
    kept = waits(rules=(*QUIET, UrgencyRule(Urgency.LOW)))
    assert from_json(to_json(kept)) == kept
    assert "urgency_rules" not in to_json(policy(level(user("ana"))))
    assert (TimerKind("deferred"), TimerKind("deferred_end")) == (TimerKind.DEFERRED, TimerKind.DEFERRED_END)


def test_a_version_that_does_not_know_the_word_does_the_same_when_the_fallback_target_waits() -> None:
    story = begun(waits(level(user("ana"), minutes=20), fallback_target=user("dora")), EVENING)
    fires(story)
    assert story.run.timer is not None
    assert (story.run.timer.kind, story.run.timer.level_end) == (TimerKind.DEFERRED_END, None)
    story.run = replace(story.run, timer=replace(story.run.timer, kind=TimerKind("unknown")))
    fires(story)
    assert [who for _, who in story.paged()] == ["dora"]


def test_a_row_of_a_replica_without_the_word_is_read_as_it_was_meant() -> None:
    row: Any = {"timer_id": UUID(int=1), "timer_kind": "deferred", "due_time": MORNING, "timer_generation": 2}
    kept: list[Any] = [{**row, "level_end": end} for end in (None, MORNING)]
    read = [_timer(each) for each in kept]
    assert [(each.kind, each.level_end) for each in read] == [
        (TimerKind.DEFERRED, None),
        (TimerKind.DEFERRED_END, None),
    ]
