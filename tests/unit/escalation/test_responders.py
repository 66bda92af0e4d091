"""Further people are asked for, the policy begins again, what the incident says is corrected."""

from tocsin_escalation.domain.decision import NoteKind, Refusal
from tocsin_escalation.domain.escalation import Reached, State
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Edited,
    OutcomeKind,
    Reassigned,
    Resolved,
    RespondersAdded,
    Restarted,
)

from tests.unit.escalation.people import THREE, Story, level, policy, team, user
from tests.unit.escalation.test_urgency import CRITICAL, WARNING, warning

ANA, BEN = "users/ana", "users/ben"


def exhausted() -> Story:
    story = Story(policy(level(user("ana"))))
    story.passes(5)
    story.timer_fires()
    assert story.run.state is State.EXHAUSTED
    return story


def test_people_who_are_asked_for_are_paged_and_the_policy_goes_on_as_it_was() -> None:
    story = Story()
    due = story.due()
    story.take(RespondersAdded(ANA, (team("core"), user("dora"))))
    assert story.paged() == [(1, "ben"), (1, "cem"), (1, "dora")]
    assert (story.due(), story.run.level, story.run.generation) == (due, 1, 1)
    assert story.run.assignees == ("ana", "ben", "cem", "dora")
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(2, "ben"), (2, "cem")]


def test_the_holder_can_ask_for_help_and_keeps_it() -> None:
    story = Story()
    story.take(Acknowledged(ANA))
    story.take(RespondersAdded(ANA, (user("dora"),)))
    assert story.paged() == [(1, "dora")]
    assert (story.run.state, story.run.acknowledged_by, story.run.timer) == (State.ACKNOWLEDGED, ANA, None)


def test_who_was_paged_at_the_level_already_can_still_be_asked_for() -> None:
    story = exhausted()
    first = story.run.pages
    story.take(RespondersAdded(BEN, (user("ana"),)))
    assert story.paged() == [(1, "ana")]
    assert story.page_of("ana") not in first
    assert story.run.state is State.EXHAUSTED


def test_asking_twice_pages_once() -> None:
    story = Story()
    story.take(RespondersAdded(ANA, (user("dora"),)))
    assert story.paged() == [(1, "dora")]
    assert story.take(RespondersAdded(BEN, (user("dora"),))).already
    assert (story.paged(), story.said()) == ([], [])


def test_asking_for_oneself_or_for_no_user_is_refused() -> None:
    story = Story()
    assert story.take(RespondersAdded(ANA, (user("ana"), team("empty")))).refusal is Refusal.NO_RESPONDERS
    story.take(Resolved(ANA))
    assert story.take(RespondersAdded(ANA, (user("ben"),))).refusal is Refusal.INCIDENT_RESOLVED


def test_a_level_is_left_only_when_those_who_were_asked_for_cannot_be_reached_either() -> None:
    story = Story()
    story.take(RespondersAdded(ANA, (user("dora"),)))
    story.page_ends("ana", OutcomeKind.UNREACHABLE)
    assert story.run.level == 1
    story.page_ends("dora", OutcomeKind.FAILED)
    assert story.run.level == 2
    assert NoteKind.LEVEL_SKIPPED in story.said()


def test_an_exhausted_incident_knows_whether_the_one_who_was_asked_for_was_reached() -> None:
    story = exhausted()
    reached = [story.page_ends("ana", OutcomeKind.FAILED).next.reached]
    reached.append(story.take(RespondersAdded(BEN, (user("dora"),))).next.reached)
    reached.append(story.page_ends("dora", OutcomeKind.SENT).next.reached)
    assert reached == [Reached.NOBODY, Reached.UNKNOWN, Reached.SOMEBODY]


def test_the_policy_begins_again_and_what_was_under_way_is_stopped() -> None:
    story = Story(policy(level(user("ana")), level(user("ben")), repeat_count=1))
    for _ in range(3):
        story.passes(5)
        story.timer_fires()
    assert (story.run.level, story.run.repeat) == (2, 1)
    story.take(Restarted(BEN))
    assert story.stopped() == 1
    assert story.paged() == [(1, "ana")]
    assert (story.run.level, story.run.repeat, story.due()) == (1, 0, 20)


def test_a_restart_takes_the_policy_as_it_is_now_and_ends_the_holding() -> None:
    story = Story()
    story.take(Acknowledged(ANA))
    story.take(Restarted(BEN, policy(level(user("dora"), minutes=9))))
    assert story.paged() == [(1, "dora")]
    assert (story.run.state, story.run.acknowledged_by, story.due()) == (State.TRIGGERED, "", 9)


def test_without_any_policy_there_is_nothing_to_begin_again() -> None:
    story = Story(None)
    assert story.take(Restarted(ANA)).refusal is Refusal.NO_POLICY


def test_a_new_title_pages_no_user() -> None:
    story = Story()
    decision = story.take(Edited(ANA, title="replica of db down"))
    assert (story.paged(), story.said()) == ([], [NoteKind.EDITED])
    assert decision.notes[0].message == "title: replica of db down (was: db down)"
    assert story.take(Edited(ANA, title="replica of db down")).already


def test_raising_the_severity_pages_as_an_alert_would() -> None:
    story = warning()
    story.take(Edited(BEN, severity=CRITICAL))
    assert story.paged() == [(1, "ana")]
    assert story.stopped() == 1


def test_a_severity_that_a_person_lowered_stays_while_the_same_alerts_repeat() -> None:
    story = Story()
    story.take(Edited(ANA, severity=WARNING))
    assert (story.paged(), story.run.facts.severity) == ([], WARNING)
    story.take(AlertsAdded(7, CRITICAL, "db down", new_keys=0))
    assert (story.paged(), story.run.facts.severity) == ([], WARNING)


def test_an_alert_of_a_new_key_raises_it_all_the_same() -> None:
    story = Story()
    story.take(Edited(ANA, severity=WARNING))
    story.take(AlertsAdded(8, CRITICAL, "the other db down", new_keys=1))
    assert (story.paged(), story.run.facts.severity) == ([(1, "ana")], CRITICAL)


def test_after_a_reassignment_a_restart_is_the_policys_own_again() -> None:
    story = Story(THREE)
    story.take(Reassigned(ANA, targets=(user("dora"),)))
    story.take(Restarted(ANA))
    assert story.paged() == [(1, "ana")]
