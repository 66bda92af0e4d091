"""What each event does to an escalation, told as a responder would tell it."""

from dataclasses import fields, replace
from datetime import timedelta

import pytest
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.decision import NoteKind, Refusal, StopPages
from tocsin_escalation.domain.escalation import Escalation, State, TimerKind, changed
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Escalated,
    Noted,
    Reassigned,
    Resolved,
    RespondersAdded,
    Snoozed,
    Started,
    Unacknowledged,
)
from tocsin_escalation.domain.policy import Directory

from tests.unit.escalation.people import EVERYBODY, NOON, THREE, Story, level, policy, stale, team, user


def test_the_first_level_is_paged_at_once_and_its_timeout_armed() -> None:
    story = Story()
    assert story.paged() == [(1, "ana")]
    assert story.due() == 5
    assert story.run.state is State.TRIGGERED


def test_no_user_answers_so_every_level_is_paged_in_turn_and_then_it_is_exhausted() -> None:
    story = Story()
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(2, "ben"), (2, "cem")]
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(3, "dora")]
    story.passes(5)
    story.timer_fires()
    assert story.paged() == []
    assert story.said() == [NoteKind.EXHAUSTED]
    assert (story.run.state, story.run.timer) == (State.EXHAUSTED, None)


def test_lateness_does_not_add_up_from_level_to_level() -> None:
    story = Story()
    story.passes(5.5)
    story.timer_fires()
    assert story.due() == 10


def test_after_an_outage_longer_than_the_timeout_people_get_their_time_to_answer() -> None:
    story = Story()
    story.passes(60)
    story.timer_fires()
    assert story.paged() == [(2, "ben"), (2, "cem")]
    assert story.due() == 65


@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_repeat_n_means_exactly_n_more_passes(repeats: int) -> None:
    story = Story(policy(level(user("ana")), level(user("ben")), repeat_count=repeats))
    paged = list(story.paged())
    while story.run.timer:
        story.passes(5)
        story.timer_fires()
        paged += story.paged()
    assert paged == [(1, "ana"), (2, "ben")] * (repeats + 1)
    assert story.run.state is State.EXHAUSTED


def test_a_level_that_resolves_to_no_user_is_skipped_at_once_and_says_so() -> None:
    story = Story(policy(level(team("empty")), level(user("gone")), level(user("ana"))))
    assert story.paged() == [(3, "ana")]
    assert story.said() == [NoteKind.OPENED, NoteKind.LEVEL_SKIPPED, NoteKind.LEVEL_SKIPPED, NoteKind.LEVEL_PAGED]
    assert story.due() == 5


def test_a_level_that_is_staffed_meanwhile_is_paged() -> None:
    story = Story(policy(level(user("ana")), level(team("night"))))
    story.directory = Directory(EVERYBODY.users, {"night": ("ben",)})
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(2, "ben")]


def test_when_no_user_can_be_paged_at_all_it_is_exhausted_aloud() -> None:
    story = Story(policy(level(user("gone")), repeat_count=2))
    assert story.run.state is State.EXHAUSTED
    assert story.said()[-1] is NoteKind.EXHAUSTED
    assert "nobody could be paged" in story.decisions[-1].notes[-1].message


def test_the_fallback_target_is_paged_once_when_nothing_is_left() -> None:
    story = Story(policy(level(user("ana")), fallback_target=user("dora")))
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(0, "dora")]
    assert (story.run.state, story.run.timer) == (State.EXHAUSTED, None)


def test_acknowledge_halts_stops_earlier_pages_and_tells_the_others() -> None:
    story = Story()
    story.passes(5)
    story.timer_fires()
    story.take(Acknowledged("users/ben"))
    assert story.run.state is State.ACKNOWLEDGED
    assert story.run.timer is None
    assert story.stopped() == 1
    assert story.run.generation == 2
    assert story.told() == [("acknowledgment", "ana"), ("acknowledgment", "cem")]
    assert story.run.assignees == ("ben",)


def test_acknowledging_twice_is_fine_and_says_so() -> None:
    story = Story()
    story.take(Acknowledged("users/ana"))
    again = story.take(Acknowledged("users/ben"))
    assert again.already
    assert again.commands == ()
    assert story.run.acknowledged_by == "users/ana"


def test_an_acknowledgement_that_times_out_pages_its_level_again() -> None:
    story = Story(policy(level(user("ana")), level(user("ben")), ack_timeout=timedelta(minutes=30)))
    story.take(Acknowledged("users/ana"))
    assert story.due() == 30
    story.passes(30)
    story.timer_fires()
    assert story.said() == [NoteKind.ACK_TIMED_OUT, NoteKind.LEVEL_PAGED]
    assert story.paged() == [(1, "ana")]
    assert story.run.state is State.TRIGGERED
    assert story.due() == 35


def test_a_timer_from_before_the_acknowledge_does_nothing() -> None:
    story = Story()
    timer = story.run.timer
    assert timer is not None
    story.take(Acknowledged("users/ana"))
    story.passes(5)
    before = story.run
    decision = story.take(type(stale())(timer.id, timer.generation))
    assert decision.commands == ()
    assert story.run == before


def test_a_timer_that_comes_too_early_changes_nothing() -> None:
    story = Story()
    story.passes(4.9)
    before = story.run
    assert story.timer_fires().commands == ()
    assert story.run == before


def test_unacknowledge_pages_the_level_anew() -> None:
    story = Story()
    story.passes(5)
    story.timer_fires()
    story.take(Acknowledged("users/ben"))
    story.take(Unacknowledged("users/ben"))
    assert story.paged() == [(2, "ben"), (2, "cem")]
    assert story.run.acknowledged_by == ""
    assert story.run.generation == 3


def test_unacknowledge_needs_an_acknowledged_incident() -> None:
    assert Story().take(Unacknowledged("users/ana")).refusal is Refusal.INCIDENT_STATE


def test_snooze_is_quiet_and_then_pages_the_users_who_are_there_by_then() -> None:
    story = Story()
    story.take(Snoozed("users/ana", timedelta(minutes=60)))
    assert story.run.state is State.SNOOZED
    assert story.run.timer is not None
    assert story.run.timer.kind is TimerKind.SNOOZE_END
    assert story.stopped() == 1
    end = f"{story.now + timedelta(minutes=60):%Y-%m-%d %H:%M:%S} UTC"
    assert StopPages(1, f"snoozed until {end} by users/ana") in story.decisions[-1].commands
    story.directory = Directory(frozenset({"dora"}), {"core": ()})
    story.passes(60)
    story.timer_fires()
    assert story.paged() == [(3, "dora")]


def test_snoozing_again_replaces_the_end() -> None:
    story = Story()
    story.take(Snoozed("users/ana", timedelta(minutes=60)))
    story.passes(10)
    story.take(Snoozed("users/ana", timedelta(minutes=5)))
    assert story.due() == 15


def test_escalate_goes_to_the_next_level_or_a_named_higher_one() -> None:
    story = Story()
    story.take(Escalated("users/ana"))
    assert story.paged() == [(2, "ben"), (2, "cem")]
    assert story.stopped() is None
    assert Story().take(Escalated("users/ana", 3)).commands


def test_who_passes_it_on_is_let_off_and_the_others_of_the_level_are_not() -> None:
    story = Story(policy(level(user("ana"), user("ben")), level(user("cem")), level(user("ana"))))
    story.take(Escalated("users/ana"))
    assert story.let_off() == [(1, "ana")]
    assert story.stopped() is None, "ben has not answered"
    story.take(Escalated("users/dora"))
    assert story.let_off() == [], "dora was not paged"
    assert story.paged() == [(3, "ana")], "she is paged where the policy names her again"
    story.take(Acknowledged("users/ana"))
    assert story.stopped() == 3
    story = Story(policy(level(user("ana")), level(user("ben"))))
    story.take(Escalated("keys/monitor"))
    assert story.let_off() == []


def test_who_passes_it_on_after_their_level_or_after_another_has_is_let_off() -> None:
    story = Story(policy(level(user("ana")), level(user("ben")), level(user("cem")), level(user("dora"))))
    story.passes(minutes=5)
    story.timer_fires()
    assert story.paged() == [(2, "ben")]
    story.take(Escalated("users/dora"))
    assert story.let_off() == []
    story.take(Escalated("users/ana"))
    assert story.let_off() == [(2, "ana")], "her page is of a generation before"


def test_who_was_asked_for_while_another_has_it_and_passes_it_on_is_let_off() -> None:
    story = Story(policy(level(user("ana")), level(user("cem"))))
    story.take(Acknowledged("users/ana"))
    story.take(RespondersAdded("users/ana", (user("ben"),)))
    story.take(Escalated("users/ben"))
    assert story.let_off() == [(2, "ben")]


def test_escalate_refuses_what_is_not_there() -> None:
    story = Story()
    assert story.take(Escalated("users/ana", 4)).refusal is Refusal.LEVEL_UNKNOWN
    assert story.take(Escalated("users/ana", 1)).refusal is Refusal.NO_NEXT_LEVEL
    story.take(Escalated("users/ana", 3))
    assert story.take(Escalated("users/ana")).refusal is Refusal.NO_NEXT_LEVEL


def test_escalating_an_acknowledged_incident_triggers_it_again() -> None:
    story = Story()
    story.take(Acknowledged("users/ana"))
    story.take(Escalated("users/ana"))
    assert story.run.state is State.TRIGGERED
    assert story.due() == 5


def test_escalating_an_exhausted_incident_starts_another_pass() -> None:
    story = Story(policy(level(user("ana"))))
    story.passes(5)
    story.timer_fires()
    story.take(Escalated("users/ben"))
    assert story.paged() == [(1, "ana")]
    assert story.run.repeat == 1


def test_reassign_to_people_pages_them_and_the_policy_goes_on_unanswered() -> None:
    story = Story()
    story.take(Reassigned("users/ana", targets=(user("dora"),)))
    assert story.paged() == [(1, "dora")]
    assert story.stopped() == 1
    assert story.run.assignees == ("dora",)
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(2, "ben"), (2, "cem")]


def test_reassign_to_a_policy_starts_it_at_level_one() -> None:
    story = Story()
    story.take(Reassigned("users/ana", policy=policy(level(user("cem"), minutes=2))))
    assert story.paged() == [(1, "cem")]
    assert story.due() == 2


def test_reassign_to_targets_without_users_goes_on_with_the_policy_and_says_so() -> None:
    story = Story()
    story.take(Reassigned("users/ana", targets=(team("empty"),)))
    assert NoteKind.LEVEL_SKIPPED in story.said()
    assert story.paged() == [(1, "ana")]


def test_resolve_ends_everything_for_good() -> None:
    story = Story()
    story.take(Resolved("integrations/prom"))
    assert (story.run.state, story.run.timer) == (State.RESOLVED, None)
    assert story.told() == [("resolution", "ana")]
    ended = story.run
    for event in (Acknowledged("users/ana"), Snoozed("users/ana", timedelta(1)), Escalated("users/ana")):
        assert story.take(event).refusal is Refusal.INCIDENT_RESOLVED
    assert story.take(Resolved("users/ana")).already
    story.take(stale())
    assert story.run == ended


def test_a_note_can_be_added_even_after_the_end() -> None:
    story = Story()
    story.take(Resolved("users/ana"))
    assert story.take(Noted("users/ana", "was the raid controller")).notes[0].message == "was the raid controller"
    told = story.take(Noted("users/ana", "was the raid controller", via="slack")).notes[0].message
    assert told == "by slack: was the raid controller"


def test_new_alerts_on_an_acknowledged_incident_are_noted_once_and_page_no_user() -> None:
    story = Story()
    story.take(Acknowledged("users/ana"))
    story.take(AlertsAdded(2, 1, "again", 0))
    assert story.said() == [NoteKind.ALERTS_ADDED]
    assert story.paged() == []
    story.take(AlertsAdded(3, 1, "again", 0))
    assert story.said() == []
    assert story.run.facts.alert_count == 3


def test_a_worse_alert_raises_the_severity() -> None:
    story = Story()
    calm = story.run.facts.severity
    story.take(AlertsAdded(2, calm + 1, "milder", 0))
    assert story.run.facts.severity == calm


def test_news_can_be_switched_off() -> None:
    story = Story(policy(level(user("ana")), status_updates=False))
    story.take(Resolved("users/ben"))
    assert story.told() == []


def test_the_same_page_has_the_same_id_however_often_it_is_decided() -> None:
    story = Story()
    run = story.run
    story.passes(5)
    first = story.timer_fires().commands
    story.run = run
    assert story.timer_fires().commands == first


def test_an_unknown_policy_falls_back_and_says_so() -> None:
    fallback = policy(level(user("ana")))
    chosen = choose("nowhere", None, fallback, EVERYBODY, 1, NOON)
    assert chosen == Started(
        fallback, "policies/nowhere does not exist; running on the tenant's fallback policies/night"
    )


def test_a_policy_that_names_no_user_falls_back() -> None:
    nobody = policy(level(user("gone")))
    assert choose("night", nobody, THREE, EVERYBODY, 1, NOON).policy == nobody, (
        "the fallback has the same id: nothing is won"
    )
    other = type(nobody)("other", nobody.levels)
    assert choose("other", other, THREE, EVERYBODY, 1, NOON).policy == THREE


def test_without_any_policy_it_is_exhausted_aloud() -> None:
    story = Story(None, cause=choose("x", None, None, EVERYBODY, 1, NOON).fallback_cause)
    assert story.run.state is State.EXHAUSTED
    assert story.said() == [NoteKind.OPENED, NoteKind.POLICY_FALLBACK, NoteKind.EXHAUSTED]


@pytest.mark.parametrize("name", [each.name for each in fields(Escalation)])
def test_a_changed_escalation_differs_in_what_was_named_and_nothing_else(name: str) -> None:
    run = Story().run
    assert changed(run, **{name: "another"}) == replace(run, **{name: "another"})  # type: ignore[arg-type]
    assert changed(run) == run
