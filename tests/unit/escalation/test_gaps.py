"""A level whose schedule has a gap: the policy says whether it is skipped, waits, or pages the fallback target."""

from dataclasses import replace

import pytest
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import State, TimerKind
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Escalated, RespondersAdded
from tocsin_escalation.domain.policy import Directory, GapChoice, OnCall, Policy

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, Story, level, policy, schedule, user

GAP = OnCall((), "schedules/web has a gap", True, NOON + 60 * MINUTE, ("cem",))
NOBODY = OnCall((), "schedules/web has nobody on call on purpose")
FOR_EVER = OnCall((), "schedules/web has a gap", True)


def people(web: OnCall, **others: OnCall) -> Directory:
    return replace(EVERYBODY, schedules={"web": web, **others})


def wanting(choice: GapChoice, **fields: object) -> Policy:
    return policy(level(schedule("web")), level(user("ben")), on_gap=choice, **fields)


def test_a_gap_is_skipped_at_once_unless_the_policy_says_otherwise() -> None:
    story = Story(policy(level(schedule("web")), level(user("ben"))), people(GAP))
    assert story.paged() == [(2, "ben")]
    assert [note.gap for note in story.decisions[0].notes] == [None, GapChoice.SKIP, None]


def test_a_held_level_pages_the_user_who_comes_on_in_that_minute() -> None:
    story = Story(wanting(GapChoice.HOLD), people(GAP))
    assert (story.run.state, story.run.level, story.run.assignees) == (State.TRIGGERED, 1, ())
    assert story.said() == [NoteKind.OPENED, NoteKind.LEVEL_HELD]
    assert "level 1 waits for users/cem, on call from 2026-03-01 13:00 UTC on; schedules/web has a gap" in (
        story.decisions[0].notes[-1].message
    )
    for minute in range(1, 60):
        story.passes(1)
        story.timer_fires()
        assert (story.said(), story.paged(), story.due()) == ([], [], minute + 1), (
            "it looks again, and says nothing anew"
        )
    story.passes(1)
    story.directory = people(OnCall(("cem",), "schedules/web has users/cem on call"))
    story.timer_fires()
    assert story.paged() == [(1, "cem")]
    assert story.due() == 65, "with the whole time to answer"


def test_an_override_made_meanwhile_ends_the_wait_within_a_minute() -> None:
    story = Story(wanting(GapChoice.HOLD), people(GAP))
    story.directory = people(OnCall(("ana",), "overrides/1"))
    story.passes(1)
    story.timer_fires()
    assert story.paged() == [(1, "ana")]


def test_the_wait_is_given_up_when_no_user_comes_on_any_more() -> None:
    story = Story(wanting(GapChoice.HOLD), people(GAP))
    story.directory = people(FOR_EVER)
    story.passes(1)
    story.timer_fires()
    assert story.paged() == [(2, "ben")]
    assert story.said() == [NoteKind.LEVEL_SKIPPED, NoteKind.LEVEL_PAGED]


def test_of_two_schedules_the_one_whose_gap_ends_first_is_waited_for() -> None:
    soon = OnCall((), "schedules/api has a gap", True, NOON + MINUTE / 2, ("dora",))
    run_on = policy(level(schedule("web"), schedule("api")), on_gap=GapChoice.HOLD)
    story = Story(run_on, people(GAP, api=soon))
    assert story.due() == 0.5
    story = Story(run_on, people(GAP, api=OnCall(("dora",), "on call")))
    assert story.paged() == [(1, "dora")], "somebody is there: nothing is waited for"


def test_only_a_policy_that_says_so_pages_the_fallback_target_for_a_gap() -> None:
    story = Story(wanting(GapChoice.SKIP, fallback_target=user("dora")), people(GAP))
    assert story.paged() == [(2, "ben")]
    given_up = Story(wanting(GapChoice.HOLD, fallback_target=user("dora")), people(FOR_EVER))
    assert given_up.paged() == [(2, "ben")]


@pytest.mark.parametrize("choice", GapChoice)
@pytest.mark.parametrize("found", [NOBODY, FOR_EVER])
def test_nobody_on_purpose_and_a_gap_without_an_end_are_not_waited_for(choice: GapChoice, found: OnCall) -> None:
    story = Story(wanting(choice), people(found))
    assert story.paged() == [(2, "ben")]


def test_the_fallback_target_stands_in_for_a_gap_and_then_the_policy_goes_on() -> None:
    story = Story(wanting(GapChoice.FALLBACK, fallback_target=user("dora")), people(GAP))
    assert story.paged() == [(1, "dora")]
    assert "the fallback target users/dora is paged instead" in story.decisions[0].notes[-1].message
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(2, "ben")]
    nobody = Story(wanting(GapChoice.FALLBACK, fallback_target=user("dora")), people(NOBODY))
    assert nobody.paged() == [(2, "ben")], "nobody on purpose is no gap"


def test_a_fallback_target_without_a_user_skips_the_level() -> None:
    story = Story(wanting(GapChoice.FALLBACK, fallback_target=user("gone")), people(GAP))
    assert story.paged() == [(2, "ben")]


def test_what_people_do_while_a_level_is_held() -> None:
    story = Story(wanting(GapChoice.HOLD), people(GAP))
    story.take(RespondersAdded("users/ben", (user("ana"),)))
    story.passes(1)
    story.timer_fires()
    assert story.run.assignees == ("ana",), "whoever was asked for stays on it"
    story.take(Escalated("users/ben"))
    assert story.paged() == [(2, "ben")]
    held = Story(wanting(GapChoice.HOLD), people(GAP))
    held.take(Acknowledged("users/ana"))
    assert (held.run.state, held.run.timer) == (State.ACKNOWLEDGED, None)


def test_an_incident_that_becomes_urgent_while_it_waits_pages_the_levels_before_anew() -> None:
    run_on = policy(level(user("ana")), level(schedule("web")), on_gap=GapChoice.HOLD)
    story = Story(run_on, people(GAP))
    story.run = replace(story.run, facts=replace(story.run.facts, severity=3))
    story.passes(5)
    story.timer_fires()
    assert story.run.timer is not None
    assert story.run.timer.kind is TimerKind.GAP_HOLD
    story.take(AlertsAdded(2, 1, "worse", 1))
    assert story.paged() == [(1, "ana")]
    assert story.run.repeat == 0


def test_a_policy_that_would_wait_is_not_replaced_by_the_fallback_policy() -> None:
    waiting = policy(level(schedule("web")), on_gap=GapChoice.HOLD)
    other = replace(policy(level(user("ana"))), id="catch-all")
    assert choose("night", waiting, other, people(GAP), 1, NOON).policy is waiting
    assert choose("night", waiting, other, people(FOR_EVER), 1, NOON).policy is other
    assert choose("night", waiting, None, people(FOR_EVER), 1, NOON).policy is waiting
