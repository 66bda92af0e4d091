"""A level that pages its people again while no one answers, before the next level."""

from dataclasses import replace
from datetime import timedelta

from tocsin_escalation.domain.decision import NoteKind, Page
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Escalated,
    OutcomeKind,
    Reassigned,
    Started,
)
from tocsin_escalation.domain.policy import Directory, Level, OnCall
from tocsin_escalation.domain.simulate import simulate
from tocsin_escalation.store.people.policies import from_json, to_json

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, Story, level, policy, schedule, stale, team, user


def again(*targets: object, times: int = 2, every: float = 5, minutes: float = 20) -> Level:
    given = level(*targets, minutes=minutes)  # type: ignore[arg-type]
    return replace(given, repeats=times, repeat_interval=timedelta(minutes=every))


def goes_on(story: Story) -> None:
    """Its timer fires when it is due."""
    assert story.run.timer is not None
    story.now = story.run.timer.due_time
    story.timer_fires()


def test_its_people_are_paged_again_and_again_and_then_the_next_level_is() -> None:
    story = Story(policy(again(user("ana"), team("core")), level(user("dora"))))
    paged, ids = [], []
    while story.run.timer is not None:
        ids += [each.id for each in story.decisions[-1].commands if isinstance(each, Page)]
        paged.append(((story.now - NOON) / MINUTE, [who for _, who in story.paged()], story.due()))
        goes_on(story)
    everybody = ["ana", "ben", "cem"]
    assert paged == [(0, everybody, 5), (5, everybody, 10), (10, everybody, 20), (20, ["dora"], 25)]
    assert len(set(ids)) == 10, "a page that notify knows already would not be sent"


def test_the_timeline_says_which_repeat_it_is() -> None:
    story = Story(policy(again(user("ana"))))
    goes_on(story)
    [note] = story.decisions[-1].notes
    assert (note.kind, note.message) == (NoteKind.LEVEL_PAGED, "level 1: paging users/ana; repeat 1 of 2")


def test_an_answer_ends_it_and_an_old_timer_does_nothing() -> None:
    story = Story(policy(again(user("ana")), level(user("ben"))))
    goes_on(story)
    assert story.stopped() is None, "the page before goes on: it may just be about to ring"
    story.take(Acknowledged("users/ana"))
    assert (story.run.state, story.run.timer) == (State.ACKNOWLEDGED, None)
    assert story.stopped() == 2, "both"
    story.take(stale())
    assert story.run.state is State.ACKNOWLEDGED


def test_the_user_who_comes_on_call_meanwhile_is_paged_and_a_gap_is_no_end() -> None:
    def there(*users: str) -> Directory:
        return replace(EVERYBODY, schedules={"web": OnCall(users, "schedules/web", gap=not users)})

    story = Story(policy(again(schedule("web")), level(user("dora"))), there("ana"))
    story.directory = there("ben")
    goes_on(story)
    assert story.paged() == [(1, "ben")]
    story.directory = there()
    goes_on(story)
    assert (story.paged(), story.due()) == ([], 20)
    assert "repeat 2 of 2: nobody is there to be paged" in story.decisions[-1].notes[-1].message
    goes_on(story)
    assert story.paged() == [(2, "dora")]


def test_lateness_does_not_add_up() -> None:
    story = Story(policy(again(user("ana")), level(user("ben"))))
    story.passes(5.5)
    story.timer_fires()
    assert story.due() == 10
    story.passes(30)
    story.timer_fires()
    assert story.paged() == [(2, "ben")], "its time is over"


def test_a_level_that_reaches_no_user_is_left_at_once_but_not_after_a_page_that_arrived() -> None:
    story = Story(policy(again(user("ana")), level(user("ben"))))
    story.page_ends("ana", OutcomeKind.FAILED)
    assert story.paged() == [(2, "ben")]
    story = Story(policy(again(user("ana")), level(user("ben"))))
    story.page_ends("ana", OutcomeKind.SENT)
    goes_on(story)
    story.page_ends("ana", OutcomeKind.FAILED)
    assert (story.paged(), story.due()) == ([], 10)


def test_a_raised_severity_begins_the_repeats_anew() -> None:
    story = Story(None)
    story.run = replace(story.run, state=State.TRIGGERED, facts=replace(story.run.facts, severity=3))
    story.take(Started(policy(again(user("ana")))))
    goes_on(story)
    story.take(AlertsAdded(2, 1, "down", 1))
    assert (story.paged(), story.due()) == ([(1, "ana")], 10)
    goes_on(story)
    assert story.decisions[-1].notes[-1].message.endswith("repeat 1 of 2")


def test_a_person_who_escalates_or_hands_it_on_is_not_repeated() -> None:
    story = Story(policy(again(user("ana")), level(user("ben"), minutes=5)))
    story.take(Escalated("users/ana"))
    assert (story.paged(), story.due()) == ([(2, "ben")], 5)
    story = Story(policy(again(user("ana")), level(user("ben"))))
    story.take(Reassigned("users/ana", (user("cem"),)))
    assert ([who for _, who in story.paged()], story.due()) == (["cem"], 20)


def test_a_simulation_shows_each() -> None:
    run = replace(Story(None).run, state=State.TRIGGERED)
    plan = simulate(run, Started(policy(again(user("ana")), level(user("ben")))), NOON, lambda _: EVERYBODY, {})
    paged = [(step.time - NOON) / MINUTE for step in plan.steps if step.note.kind is NoteKind.LEVEL_PAGED]
    assert paged == [0, 5, 10, 20]


def test_it_is_kept_as_it_was_written() -> None:
    kept = policy(again(user("ana")))
    assert from_json(to_json(kept)) == kept
    assert "repeats" not in to_json(policy(level(user("ana"))))
