"""What becomes of pages, and what follows from it, told as a responder would tell it."""

from datetime import timedelta
from uuid import UUID

import pytest
from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import Escalation, PagedRun, Reached, State
from tocsin_escalation.domain.events import (
    Acknowledged,
    Escalated,
    Event,
    Merged,
    OutcomeKind,
    PageOutcome,
    Reassigned,
    Resolved,
    Snoozed,
)
from tocsin_escalation.domain.outcomes import inform

from tests.unit.escalation.people import Story, level, policy, team, user

UNREACHABLE, FAILED, DELAYED, SENT, DELIVERED = OutcomeKind
NO_METHOD = "no verified contact method"


def message(story: Story, number: int = 0) -> str:
    return story.decisions[-1].notes[number].message


def test_a_level_where_no_user_can_be_reached_is_left_at_once() -> None:
    story = Story()
    story.page_ends("ana", UNREACHABLE, reason=NO_METHOD)
    assert message(story) == "ana could not be reached: no verified contact method"
    assert story.said() == [NoteKind.PAGE_UNREACHABLE, NoteKind.LEVEL_SKIPPED, NoteKind.LEVEL_PAGED]
    assert story.paged() == [(2, "ben"), (2, "cem")]
    assert story.run.generation == 1, "nothing was acknowledged, so nothing is superseded"


def test_a_level_is_left_only_when_its_last_page_has_failed() -> None:
    story = Story(policy(level(team("core")), level(user("ana"))))
    story.page_ends("ben", UNREACHABLE, reason=NO_METHOD)
    assert story.paged() == []
    story.page_ends("cem", FAILED, reason="webhook failed for good: HTTP 410")
    assert story.paged() == [(2, "ana")]


def test_a_level_with_a_user_who_was_reached_waits_for_them() -> None:
    story = Story(policy(level(team("core")), level(user("ana"))))
    story.page_ends("cem", SENT, channel="e-mail", attempts=2)
    assert message(story) == "e-mail to cem accepted after 2 attempts"
    story.page_ends("cem", SENT, channel="sms", attempts=1, reason="in one message for 17 pages")
    assert message(story) == "sms to cem accepted, in one message for 17 pages"
    story.page_ends("ben", UNREACHABLE, reason=NO_METHOD)
    assert story.paged() == []
    assert story.due() == 5
    assert story.run.reached is Reached.SOMEBODY


def test_a_failure_that_is_told_after_the_success_does_not_undo_it() -> None:
    story = Story()
    story.page_ends("ana", SENT, channel="e-mail", attempts=1)
    assert message(story) == "e-mail to ana accepted"
    story.page_ends("ana", FAILED, reason="older")
    assert story.paged() == []
    assert story.run.reached is Reached.SOMEBODY


def test_a_page_that_was_taken_and_did_not_arrive_is_not_waited_for() -> None:
    story = Story()
    story.page_ends("ana", SENT, channel="call", attempts=2)
    story.page_ends("ana", FAILED, reason="voice failed for good: nobody picked up", undelivered=True)
    assert story.said() == [NoteKind.PAGE_FAILED, NoteKind.LEVEL_SKIPPED, NoteKind.LEVEL_PAGED]
    assert story.paged() == [(2, "ben"), (2, "cem")]


def test_a_page_that_is_tried_on_only_informs() -> None:
    story = Story()
    before = story.run
    story.page_ends("ana", DELAYED, channel="webhook", reason="HTTP 503")
    assert story.said() == [NoteKind.PAGE_DELAYED]
    assert story.run == before


@pytest.mark.parametrize(("after", "due"), [(0.01, 5), (3, 8)])
def test_the_next_level_has_its_whole_time_and_passes_do_not_drift(after: float, due: float) -> None:
    """Prompt: counted from the planned time of the level left. Late: from now, or ben would have two minutes."""
    story = Story()
    story.passes(after)
    story.page_ends("ana", UNREACHABLE, reason=NO_METHOD)
    assert story.due() == due


def test_ten_passes_through_an_unreachable_level_are_as_long_as_ten_of_the_other() -> None:
    story = Story(policy(level(user("ana")), level(user("ben")), repeat_count=9))
    for passes in range(1, 11):
        story.passes(0.01)
        story.page_ends("ana", UNREACHABLE, reason=NO_METHOD)
        assert story.paged() == [(2, "ben")]
        assert story.due() == passes * 5
        assert story.run.timer is not None
        story.now = story.run.timer.due_time
        story.timer_fires()
    assert story.run.state is State.EXHAUSTED


def test_when_every_page_failed_it_is_exhausted_and_says_that_no_user_was_reached() -> None:
    story = Story(policy(level(user("ana")), level(user("ben")), repeat_count=1))
    for who in ("ana", "ben", "ana", "ben"):
        story.page_ends(who, UNREACHABLE, reason=NO_METHOD)
    assert story.run.state is State.EXHAUSTED
    assert story.run.timer is None
    assert story.run.reached is Reached.NOBODY
    assert "nobody was reached" in message(story, -1)


def test_the_fallback_target_is_paged_at_once_and_may_be_reached() -> None:
    story = Story(policy(level(user("ana")), fallback_target=user("dora")))
    story.page_ends("ana", UNREACHABLE, reason=NO_METHOD)
    assert story.paged() == [(0, "dora")]
    assert story.run.reached is Reached.UNKNOWN
    story.page_ends("dora", SENT, channel="webhook", attempts=1)
    assert (story.run.state, story.run.reached) == (State.EXHAUSTED, Reached.SOMEBODY)


def test_when_the_fallback_target_cannot_be_reached_either_that_is_said_aloud() -> None:
    story = Story(policy(level(user("ana")), fallback_target=user("dora")))
    story.page_ends("ana", UNREACHABLE, reason=NO_METHOD)
    story.page_ends("dora", UNREACHABLE, reason=NO_METHOD)
    assert story.said() == [NoteKind.PAGE_UNREACHABLE, NoteKind.NOBODY_REACHED]
    assert story.run.reached is Reached.NOBODY


def test_a_page_of_an_earlier_level_that_is_still_open_keeps_the_verdict_open() -> None:
    story = Story(policy(level(user("ana")), level(user("ben"))))
    story.passes(5)
    story.timer_fires()
    ana = story.page_of("ana")
    story.page_ends("ben", UNREACHABLE, reason=NO_METHOD)
    assert (story.run.state, story.run.reached) == (State.EXHAUSTED, Reached.UNKNOWN)
    assert ana in story.run.pages
    story.page_ends("ana", FAILED, reason="six hours")
    assert story.run.reached is Reached.NOBODY


@pytest.mark.parametrize(
    "event",
    [Acknowledged("users/dora"), Snoozed("users/dora", timedelta(hours=1)), Reassigned("users/dora", (user("dora"),))],
)
def test_outcomes_of_earlier_generations_only_inform(event: Event) -> None:
    story = Story()
    story.take(event)
    before = story.run
    story.page_ends("ana", UNREACHABLE, reason=NO_METHOD)
    assert story.said() == [NoteKind.PAGE_UNREACHABLE]
    assert story.run == before


def test_after_escalating_by_hand_the_old_level_only_informs() -> None:
    story = Story()
    ana = story.page_of("ana")
    story.take(Escalated("users/dora"))
    story.page_ends("ana", UNREACHABLE, reason=NO_METHOD)
    assert story.paged() == []
    assert story.run.level == 2
    assert ana not in story.run.pages


def test_a_page_that_was_delivered_is_noted_and_has_reached_a_user() -> None:
    story = Story()
    ana = story.page_of("ana")
    story.take(PageOutcome(ana, "ana", DELIVERED, channel="SMS"))  # before the news that a provider took it
    assert story.said() == [NoteKind.PAGE_DELIVERED]
    assert message(story) == "SMS to ana delivered"
    assert story.run.reached is Reached.SOMEBODY
    before = story.run
    story.take(PageOutcome(ana, "ana", SENT, channel="SMS", attempts=1))
    assert story.said() == [NoteKind.PAGE_SENT]
    assert story.run == before


def test_an_outcome_after_the_end_is_noted_and_changes_nothing() -> None:
    story = Story()
    ana = story.page_of("ana")
    story.take(Resolved("integrations/prom"))
    before = story.run
    story.take(PageOutcome(ana, "ana", SENT, channel="e-mail", attempts=1))
    assert story.said() == [NoteKind.PAGE_SENT]
    assert story.run == before


def test_people_who_are_paged_by_a_reassign_and_cannot_be_reached_are_passed_by() -> None:
    story = Story()
    story.take(Reassigned("users/ana", targets=(user("dora"),)))
    story.page_ends("dora", UNREACHABLE, reason=NO_METHOD)
    assert story.paged() == [(2, "ben"), (2, "cem")]


def paged(run: Escalation) -> PagedRun:
    return PagedRun(
        run.org_id,
        run.incident_id,
        run.state,
        run.level,
        run.repeat,
        run.generation,
        run.assignees,
        run.pages,
        run.reached,
    )


@pytest.mark.parametrize("kind", [DELAYED, SENT, DELIVERED])
@pytest.mark.parametrize(
    "before",
    [
        (),
        (PageOutcome(UUID(int=1), "cem", FAILED),),
        (Acknowledged("users/ana"),),
        (Escalated("users/ana"),),
        (Merged("users/ana", UUID(int=2)),),
        (Resolved("users/ana"),),
    ],
    ids=["at level 1", "another page failed", "acknowledged", "at level 2", "merged", "resolved"],
)
def test_what_moves_nothing_is_known_the_same_of_a_run_of_which_little_was_read(
    kind: OutcomeKind, before: tuple[Event, ...]
) -> None:
    story = Story()
    page = story.page_of("ana")
    for event in before:
        story.take(event)
    for each in (PageOutcome(page, "ana", kind), PageOutcome(page, "ana", SENT)):
        following = inform(paged(story.run), each)
        story.take(each)
        assert following == paged(story.run)
        assert inform(following, each) is following, "told twice it changes nothing"
