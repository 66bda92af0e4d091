"""Levels that are for some incidents only, or for some hours of the week."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_escalation.app.incidents.round_robin import running
from tocsin_escalation.domain.conditions import ALWAYS, SEVERITIES, Condition, left_out
from tocsin_escalation.domain.decision import NoteKind, Refusal
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Edited, Escalated, Event, Started, Unacknowledged
from tocsin_escalation.domain.policy import Directory, GapChoice, Level, OnCall, Policy, Target
from tocsin_escalation.domain.schedules.clock import WEEK, clock, minute_of
from tocsin_escalation.domain.schedules.model import Window
from tocsin_escalation.domain.simulate import simulate
from tocsin_escalation.domain.warnings import warn_of_conditions
from tocsin_escalation.store.people.policies import from_json, to_json

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, Story, level, policy, schedule, team, user
from tests.unit.escalation.schedules.writing import EVERY_DAY, WORKDAYS, hours

OFFICE = Condition(windows=(hours(WORKDAYS, 8, 18),), zone="Europe/Berlin")
SEVERE = Condition((1, 2))


def only(condition: Condition, *targets: Target, minutes: float = 5) -> Level:
    return replace(level(*targets, minutes=minutes), condition=condition)


def begun(run_on: Policy, now: datetime = NOON, severity: int = 1, there: Directory = EVERYBODY) -> Story:
    story = Story(None, there)
    story.now = now
    story.run = replace(story.run, state=State.TRIGGERED, facts=replace(story.run.facts, severity=severity))
    story.take(Started(run_on))
    return story


@pytest.mark.parametrize(("severity", "paged"), [(1, "ana"), (2, "ana"), (3, "ben"), (4, "ben")])
def test_a_level_for_severe_incidents_is_passed_at_once_by_others(severity: int, paged: str) -> None:
    story = begun(policy(only(SEVERE, user("ana")), level(user("ben"))), severity=severity)
    assert [who for _, who in story.paged()] == [paged]
    assert (NoteKind.LEVEL_PASSED in story.said()) == (paged == "ben")
    assert story.due() == 5, "the time to answer counts from the start"


def test_the_timeline_says_why_a_level_was_passed() -> None:
    story = begun(policy(only(SEVERE, user("ana")), only(OFFICE, user("ben")), level(user("dora"))), severity=3)
    assert [note.message for note in story.decisions[-1].notes if note.kind is NoteKind.LEVEL_PASSED] == [
        "level 1 passed: it is for critical, error, and the incident is of severity warning",
        "level 2 passed: it is for Mon, Tue, Wed, Thu, Fri 08:00 to 18:00 in Europe/Berlin, and it is another time",
    ], "noon of the first of March 2026 is a Sunday"


@pytest.mark.parametrize(
    ("utc", "paged"),
    [
        ("2026-03-27 06:59", "ben"),
        ("2026-03-27 07:00", "ana"),
        ("2026-03-27 16:59", "ana"),
        ("2026-03-27 17:00", "ben"),
        ("2026-03-28 12:00", "ben"),
        ("2026-03-30 05:59", "ben"),
        ("2026-03-30 06:00", "ana"),
        ("2026-03-30 16:00", "ben"),
    ],
)
def test_the_hours_are_those_on_the_wall_also_when_the_clocks_change(utc: str, paged: str) -> None:
    now = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert [who for _, who in begun(policy(only(OFFICE, user("ana")), level(user("ben"))), now).paged()] == [paged]


def test_a_level_whose_time_zone_is_known_no_more_pages_at_any_hour() -> None:
    gone = replace(OFFICE, severities=(1,), zone="Europe/Nowhere")
    run_on = policy(only(gone, user("ana")), level(user("ben")))
    assert begun(run_on).paged() == [(1, "ana")]
    assert begun(run_on, severity=2).paged() == [(2, "ben")], "its severities still hold"
    assert left_out([gone], 1, minute_of(NOON)) is None
    assert left_out([gone], 2, minute_of(NOON)) == (minute_of(NOON), minute_of(NOON) + WEEK)


def test_a_night_belongs_to_the_day_it_begins_on() -> None:
    night = Condition(windows=(Window(frozenset({4}), 22 * 60, 8 * 60),), zone="UTC")
    friday = datetime(2026, 3, 6, 22, 0, tzinfo=UTC)
    assert not night.holds(1, friday - timedelta(minutes=1))
    assert all(night.holds(1, friday + timedelta(hours=later)) for later in range(8))
    assert not night.holds(1, friday + timedelta(hours=8))
    assert "Fri 22:00 to 06:00 in UTC" in night.why_not(1, NOON)


def test_all_that_is_set_must_hold() -> None:
    both = replace(OFFICE, severities=(1,))
    monday = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    assert both.holds(1, monday)
    assert not both.holds(2, monday)
    assert not both.holds(1, NOON)


def test_no_level_for_it_pages_the_fallback_target_and_says_loudly_that_no_user_could_be_paged() -> None:
    run_on = policy(only(SEVERE, user("ana")), fallback_target=user("dora"), repeat_count=2)
    story = begun(run_on, severity=4)
    assert (story.run.state, story.run.assignees) == (State.EXHAUSTED, ("dora",))
    assert story.said().count(NoteKind.LEVEL_PASSED) == 1, "a repeat in the same moment finds nobody either"


def test_each_repeat_looks_at_the_hours_anew() -> None:
    run_on = policy(only(OFFICE, user("ana")), level(user("ben"), minutes=60), repeat_count=1)
    plan = simulate(Story(None).run, Started(run_on), datetime(2026, 3, 2, 6, 30, tzinfo=UTC), lambda _: EVERYBODY, {})
    assert [(step.note.level, page.user) for step in plan.steps for page in step.note.pages] == [
        (2, "ben"),
        (1, "ana"),
        (2, "ben"),
    ]


def test_a_person_who_names_a_level_pages_it_and_the_next_level_is_the_next_one_that_fits() -> None:
    run_on = policy(level(user("ana")), only(OFFICE, user("ben")), level(user("cem")))
    named = begun(run_on)
    named.take(Escalated("users/ana", 2))
    assert named.paged() == [(2, "ben")]
    following = begun(run_on)
    following.take(Escalated("users/ana"))
    assert following.paged() == [(3, "cem")]


@pytest.mark.parametrize("last", [only(OFFICE, user("ben")), level(team("empty"))])
def test_escalating_is_refused_when_no_level_that_follows_pages_anybody(last: Level) -> None:
    story = begun(policy(level(user("ana")), last))
    before = story.run
    refused = story.take(Escalated("users/ana"))
    assert (refused.refusal, refused.commands, refused.notes) == (Refusal.NO_NEXT_LEVEL, (), ())
    assert story.run == before, "ana stays paged, and her time to answer goes on"


def test_escalating_goes_on_to_a_repeat_or_the_fallback_target_when_no_level_that_follows_is_for_it() -> None:
    levels = (level(user("ana")), only(OFFICE, user("ben")))
    repeated = begun(policy(*levels, repeat_count=1))
    repeated.take(Escalated("users/ana"))
    assert repeated.paged() == [(1, "ana")]
    fallen_back = begun(policy(*levels, fallback_target=user("dora")))
    fallen_back.take(Escalated("users/ana"))
    assert (fallen_back.run.state, fallen_back.run.assignees) == (State.EXHAUSTED, ("dora",))


def test_a_level_that_has_begun_goes_on_at_any_time() -> None:
    run_on = policy(only(OFFICE, user("ana"), minutes=60), level(user("ben")))
    story = begun(run_on, datetime(2026, 3, 2, 16, 59, tzinfo=UTC))
    story.take(Acknowledged("users/ana"))
    story.passes(10)
    story.take(Unacknowledged("users/ana"))
    assert story.paged() == [(1, "ana")]


def test_a_level_that_was_held_for_a_gap_pages_the_user_who_comes_on() -> None:
    run_on = policy(only(OFFICE, schedule("web")), level(user("ben")), on_gap=GapChoice.HOLD)
    start = datetime(2026, 3, 2, 16, 59, tzinfo=UTC)
    gap = OnCall((), "web has a gap", True, start + 5 * MINUTE, ("cem",))
    story = Story(None, replace(EVERYBODY, schedules={"web": gap}))
    story.now, story.run = start, replace(story.run, state=State.TRIGGERED)
    story.take(Started(run_on))
    assert NoteKind.LEVEL_HELD in story.said()
    story.passes(5)
    story.directory = replace(EVERYBODY, schedules={"web": OnCall(("cem",), "cem is on call")})
    story.timer_fires()
    assert story.paged() == [(1, "cem")]


@pytest.mark.parametrize("event", [AlertsAdded(2, 1, "worse", 1), Edited("users/ben", severity=1)])
def test_an_incident_that_becomes_urgent_goes_through_the_levels_that_it_was_not_severe_enough_for(
    event: object,
) -> None:
    run_on = policy(only(SEVERE, user("ana")), level(user("ben")))
    story = begun(run_on, severity=3)
    story.take(event)  # type: ignore[arg-type]
    assert (story.paged(), story.run.repeat, story.stopped()) == ([(1, "ana")], 0, 1)
    known = begun(policy(level(user("ben")), only(SEVERE, user("ana"))), severity=3)
    known.take(event)  # type: ignore[arg-type]
    assert known.paged() == [(1, "ben")], "the level is for it before and after: its people are paged anew"


CRITICAL = Condition((1,))
RAISES = [AlertsAdded(2, 1, "worse", 1), Edited("users/dora", severity=1)]


@pytest.mark.parametrize("event", RAISES)
@pytest.mark.parametrize("page_raised_urgency", [True, False])
def test_an_error_that_becomes_critical_goes_through_the_levels_that_it_passed(
    event: AlertsAdded | Edited, page_raised_urgency: bool
) -> None:
    run_on = policy(only(CRITICAL, user("ana")), level(user("ben")), page_raised_urgency=page_raised_urgency)
    story = begun(run_on, severity=2)
    assert story.paged() == [(2, "ben")]
    story.take(event)
    assert (story.paged(), story.run.repeat, story.stopped()) == ([(1, "ana")], 0, 1)
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(2, "ben")]


@pytest.mark.parametrize("event", RAISES)
def test_an_error_that_no_level_was_for_begins_again_when_it_becomes_critical(event: AlertsAdded | Edited) -> None:
    story = begun(policy(only(CRITICAL, user("ana")), only(CRITICAL, user("ben"))), severity=2)
    assert (story.run.state, story.paged()) == (State.EXHAUSTED, [])
    story.take(event)
    assert (story.run.state, story.paged(), story.due()) == (State.TRIGGERED, [(1, "ana")], 5)


@pytest.mark.parametrize("event", RAISES)
@pytest.mark.parametrize("page_raised_urgency", [True, False])
def test_an_error_that_a_person_holds_stays_with_that_person_when_it_becomes_critical(
    event: AlertsAdded | Edited, page_raised_urgency: bool
) -> None:
    run_on = policy(only(CRITICAL, user("ana")), level(user("ben")), page_raised_urgency=page_raised_urgency)
    story = begun(run_on, severity=2)
    story.take(Acknowledged("users/ben"))
    story.take(event)
    assert (story.run.state, story.decisions[-1].commands) == (State.ACKNOWLEDGED, ())


@pytest.mark.parametrize("event", [AlertsAdded(2, 3, "worse", 1), Edited("users/dora", severity=3)])
def test_an_info_that_becomes_a_warning_goes_through_the_levels_that_it_passed(event: AlertsAdded | Edited) -> None:
    story = begun(policy(only(Condition((3,)), user("ana")), level(user("ben"))), severity=4)
    story.take(event)
    assert story.paged() == [(1, "ana")]


def test_a_severity_that_changes_no_level_or_falls_pages_no_user() -> None:
    story = begun(policy(only(SEVERE, user("ana")), level(user("ben"))), severity=2)
    story.take(AlertsAdded(2, 1, "worse", 1))
    assert story.paged() == []
    fallen = begun(policy(only(Condition((3,)), user("ana")), level(user("ben"))), severity=2)
    fallen.take(Edited("users/dora", severity=3))
    assert fallen.paged() == []


@pytest.mark.parametrize("was", sorted(SEVERITIES))
@pytest.mark.parametrize("severity", sorted(SEVERITIES))
def test_turns_and_next_policies_are_loaded_for_each_raised_severity(was: int, severity: int) -> None:
    run_on = policy(level(user("ana")))
    run = begun(run_on, severity=was).run
    for event in (AlertsAdded(2, severity, "worse", 1), Edited("users/dora", severity=severity)):
        named = running(Occurred(run.incident_id, event), run)
        assert named == ([("acme", run_on)] if severity < was else [])


@dataclass(frozen=True)
class Occurred:
    incident_id: UUID
    event: Event


def test_a_policy_warns_of_incidents_for_which_no_level_is() -> None:
    run_on = policy(only(SEVERE, user("ana")), only(OFFICE, user("ben")))
    warned = [each.message for each in warn_of_conditions(run_on, EVERYBODY, minute_of(NOON))]
    assert [message.partition(" to ")[0] for message in warned] == [
        "an incident of severity warning pages nobody from 2026-03-01 12:00",
        "an incident of severity info pages nobody from 2026-03-01 12:00",
    ]
    assert "to 2026-03-02 07:00 UTC" in warned[0]
    assert warn_of_conditions(policy(*run_on.levels, fallback_target=user("dora")), EVERYBODY, minute_of(NOON)) == ()
    assert warn_of_conditions(policy(*run_on.levels, level(user("ben"))), EVERYBODY, minute_of(NOON)) == ()


def test_a_policy_that_hands_on_warns_of_what_no_policy_after_it_is_for() -> None:
    first = replace(policy(only(SEVERE, user("ana"))), id="first", next_policy="second")
    night = Condition((3,), (hours(EVERY_DAY, 18, 8),), "Europe/Berlin")
    second = replace(policy(only(night, user("ben"))), id="second")

    def warned(*after: Policy) -> list[str]:
        there = replace(EVERYBODY, policies={each.id: each for each in after})
        return [each.message for each in warn_of_conditions(first, there, minute_of(NOON))]

    [warning, info] = warned(second)
    assert "severity warning pages nobody from 2026-03-01 12:00 to 2026-03-01 17:00 UTC" in warning
    assert "severity info pages nobody from 2026-03-01 12:00 to 2026-03-08 12:00 UTC" in info
    assert info.endswith(
        "no level holds, nor of policies/second to which it is handed on, and policies/second has no fallback target"
    )
    assert warned(replace(second, fallback_target=user("dora"))) == []
    assert warned(policy(level(user("ben"))), replace(second, levels=(level(user("ben")),))) == []
    assert len(warned()) == 2, "of its own levels, when the next policy was deleted"
    own = replace(first, fallback_target=user("dora"))
    there = replace(EVERYBODY, policies={"second": second})
    assert len(warn_of_conditions(own, there, minute_of(NOON))) == 2, "only that of the last policy is paged"
    assert warn_of_conditions(own, EVERYBODY, minute_of(NOON)) == ()
    ring = replace(second, next_policy="first", fallback_target=user("dora"))
    there = replace(EVERYBODY, policies={"first": first, "second": ring})
    assert warn_of_conditions(first, there, minute_of(NOON)) == (), "the second is the sixth as well"


HOUR = 60
WINDOWS = st.builds(
    lambda days, start, length: Window(days, start * HOUR, length * HOUR),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 23),
    st.integers(1, 168),
)
CONDITIONS = st.builds(
    lambda severities, windows, zone: Condition(tuple(sorted(severities)), tuple(windows), zone if windows else ""),
    st.sets(st.sampled_from(sorted(SEVERITIES))),
    st.lists(WINDOWS, max_size=2),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
HALF_HOURS = st.integers(
    minute_of(datetime(2026, 1, 1, tzinfo=UTC)) // 30, minute_of(datetime(2027, 1, 1, tzinfo=UTC)) // 30
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(CONDITIONS, min_size=1, max_size=3), st.sampled_from(sorted(SEVERITIES)), HALF_HOURS.map(lambda n: n * 30)
)
def test_what_is_left_out_is_what_a_walk_through_the_week_finds(
    conditions: list[Condition], severity: int, since: int
) -> None:
    """All begins and ends are on half hours, so the walk goes by half hours."""

    def fits(minute: int) -> bool:
        return any(
            (not each.severities or severity in each.severities) and (not each.windows or _open(each, minute))
            for each in conditions
        )

    walked = [minute for minute in range(since, since + WEEK, 30) if not fits(minute)]
    found = left_out(conditions, severity, since)
    assert (found is None) == (not walked)
    if found is not None:
        assert found[0] == walked[0]
        end = next((minute for minute in range(found[0], since + WEEK, 30) if minute not in set(walked)), since + WEEK)
        assert found[1] == end


def _open(condition: Condition, minute: int) -> bool:
    """By what the wall shows, from the window's own words; around a change of clocks as `Clock.instant` says."""
    there = clock(condition.zone)
    local = there.local(minute)
    for window in condition.windows:
        for day in range(local // 1440 - 9, local // 1440 + 2):
            if (day + 3) % 7 in window.days:
                begins, ends = day * 1440 + window.start, day * 1440 + window.start + window.length
                if there.instant(begins) <= minute < there.instant(ends, last=True):
                    return True
    return False


def test_a_frozen_policy_keeps_its_conditions_and_one_of_an_earlier_release_has_none() -> None:
    run_on = policy(only(replace(OFFICE, severities=(1, 3)), user("ana")), level(user("ben")))
    assert from_json(to_json(run_on)) == run_on
    assert from_json(to_json(run_on)).levels[1].condition is ALWAYS
    assert "condition" not in to_json(policy(level(user("ben"))))


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        (Condition(), ""),
        (Condition(windows=(hours(EVERY_DAY, 8, 18),)), ".time_zone"),
        (Condition((1,), zone="UTC"), ".time_zone"),
        (replace(OFFICE, zone="Europe/Nowhere"), ".time_zone"),
        (replace(OFFICE, windows=(Window(frozenset({0}), 0, 8 * 1440),)), ".windows[0]"),
        (replace(OFFICE, windows=(hours(EVERY_DAY, 8, 18), Window(frozenset({0}), 60, 0))), ".windows[1]"),
    ],
)
def test_what_a_condition_cannot_be(condition: Condition, field: str) -> None:
    problem = condition.problem()
    assert problem is not None
    assert problem[0] == field
