"""A warning becomes critical, told as a responder would tell it."""

from datetime import timedelta

from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import Escalation, Facts, State
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Reassigned, Snoozed, Started
from tocsin_escalation.domain.policy import Policy

from tests.unit.escalation.people import NOON, THREE, Story, level, policy, user

CRITICAL, ERROR, WARNING, INFO = 1, 2, 3, 4


def warning(run_on: Policy = THREE, severity: int = WARNING) -> Story:
    story = Story(run_on)
    facts = Facts("disk 80 % full", "db1", severity, "integrations/prom", NOON)
    story.run = Escalation("acme", story.run.incident_id, facts)
    story.decisions.clear()
    story.take(Started(run_on))
    return story


def becomes(story: Story, severity: int) -> None:
    story.take(AlertsAdded(2, severity, "disk full", 0))


def told(story: Story) -> list[tuple[str, str]]:
    return [(page.type.value, page.user) for page in story._pages()]


def test_the_current_level_is_paged_anew_and_what_waits_is_superseded() -> None:
    story = warning()
    story.passes(3)
    becomes(story, CRITICAL)
    assert story.said() == [NoteKind.SEVERITY_RAISED, NoteKind.LEVEL_PAGED]
    assert story.paged() == [(1, "ana")]
    assert story.stopped() == 1
    assert story.run.generation == 2
    assert story.due() == 8, "whoever is paged loudly has the whole time to answer"


def test_urgency_rises_once() -> None:
    story = warning()
    becomes(story, ERROR)
    becomes(story, CRITICAL)
    assert story.paged() == []
    assert story.said() == [NoteKind.SEVERITY_RAISED]
    assert story.run.generation == 2


def test_a_worse_severity_of_the_same_urgency_pages_no_user() -> None:
    story = warning(severity=INFO)
    becomes(story, WARNING)
    assert story.paged() == []
    assert story.run.generation == 1


def test_people_it_was_reassigned_to_are_paged_and_not_those_of_the_policy() -> None:
    story = warning()
    story.take(Reassigned("users/ana", targets=(user("dora"),)))
    becomes(story, CRITICAL)
    assert story.paged() == [(1, "dora")]


def test_the_user_who_acknowledged_it_is_told_and_nothing_escalates() -> None:
    story = warning()
    story.take(Acknowledged("users/ben"))
    before = story.run.timer
    becomes(story, CRITICAL)
    assert told(story) == [("urgency_raised", "ben")]
    assert (story.run.state, story.run.timer) == (State.ACKNOWLEDGED, before)
    assert NoteKind.URGENCY_RAISED in story.said()


def test_an_acknowledge_by_a_sender_is_held_by_the_people_who_were_paged() -> None:
    story = warning()
    story.take(Acknowledged("integrations/prom"))
    becomes(story, CRITICAL)
    assert told(story) == [("urgency_raised", "ana")]


def test_a_snooze_goes_on_and_its_people_are_told() -> None:
    story = warning()
    story.take(Snoozed("users/ana", timedelta(hours=2)))
    becomes(story, CRITICAL)
    assert told(story) == [("urgency_raised", "ana")]
    assert story.run.state is State.SNOOZED


def test_an_exhausted_warning_that_becomes_critical_starts_again() -> None:
    story = warning(policy(level(user("ana"))))
    story.passes(5)
    story.timer_fires()
    assert story.run.state is State.EXHAUSTED
    becomes(story, CRITICAL)
    assert story.paged() == [(1, "ana")]
    assert (story.run.state, story.due()) == (State.TRIGGERED, 10)


def test_a_policy_can_leave_it_at_a_note() -> None:
    story = warning(policy(level(user("ana")), page_raised_urgency=False))
    becomes(story, CRITICAL)
    assert story.said() == [NoteKind.SEVERITY_RAISED]
    assert story.paged() == []
