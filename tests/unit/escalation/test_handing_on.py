"""A policy on which no one answers hands the incident on to another one."""

from dataclasses import replace

from tocsin_escalation.domain.chain import MOST_HAND_ONS
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.conditions import Condition
from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Acknowledged, OutcomeKind, Reassigned, Restarted, Started, TimerFired
from tocsin_escalation.domain.policy import Directory, Policy
from tocsin_escalation.domain.simulate import simulate
from tocsin_escalation.domain.warnings import warn_of_next
from tocsin_escalation.store.people.policies import from_json, to_json

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, Story, level, policy, user


def named(id: str, *people: str, following: str = "", **fields: object) -> Policy:
    return replace(policy(*(level(user(each)) for each in people), **fields), id=id, next_policy=following)


def knowing(*policies: Policy) -> Directory:
    return replace(EVERYBODY, policies={each.id: each for each in policies})


TEAM = named("team", "ana", following="company")
COMPANY = named("company", "ben", "cem", fallback_target=user("dora"))


def test_the_next_policy_begins_when_the_last_level_has_passed() -> None:
    story = Story(TEAM, knowing(COMPANY))
    before = story.run
    story.passes(5)
    story.timer_fires()
    assert story.said() == [NoteKind.HANDED_ON, NoteKind.LEVEL_PAGED]
    assert story.decisions[-1].notes[0].message == "nobody answered on policies/team; policies/company goes on"
    assert (story.paged(), story.due(), story.stopped()) == ([(1, "ben")], 10, None)
    assert (story.run.policy, story.run.level, story.run.repeat) == (COMPANY, 1, 0)
    story.take(TimerFired(before.timer.id, before.timer.generation))  # type: ignore[union-attr]
    assert story.said() == [NoteKind.STALE]


def test_repeats_come_first_and_a_user_who_was_paged_before_may_still_answer() -> None:
    story = Story(replace(TEAM, repeat_count=1), knowing(COMPANY))
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(1, "ana")]
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(1, "ben")]
    story.take(Acknowledged("users/ana"))
    assert (story.run.state, story.stopped()) == (State.ACKNOWLEDGED, 2), "every page of both policies is stopped"
    assert story.told() == [("acknowledgment", "ben")]


def test_a_person_of_both_policies_is_paged_by_each() -> None:
    story = Story(named("team", "ana", following="again"), knowing(named("again", "ana")))
    first = story.page_of("ana")
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(1, "ana")]
    assert story.page_of("ana") != first, "notify drops a page that it knows"


def test_the_fallback_target_is_paged_by_the_last_policy_only() -> None:
    story = Story(replace(TEAM, fallback_target=user("cem")), knowing(COMPANY))
    paged = []
    while story.run.timer is not None:
        story.now = story.run.timer.due_time
        story.timer_fires()
        paged += story.paged()
    assert paged == [(1, "ben"), (2, "cem"), (0, "dora")]
    assert story.run.state is State.EXHAUSTED


def test_a_level_of_which_no_user_can_be_reached_hands_on_at_once() -> None:
    story = Story(TEAM, knowing(COMPANY))
    story.page_ends("ana", OutcomeKind.UNREACHABLE, reason="no verified contact method")
    assert story.paged() == [(1, "ben")]
    nobody = Story(named("team", "gone", following="company"), knowing(COMPANY))
    assert nobody.paged() == [(1, "ben")]


def test_a_next_policy_that_was_deleted_is_said_and_the_fallback_target_is_paged() -> None:
    story = Story(replace(TEAM, fallback_target=user("cem")), EVERYBODY)
    story.passes(5)
    story.timer_fires()
    assert story.paged() == [(0, "cem")]
    text = "policies/company, to which it would be handed on, does not exist any more"
    assert text in story.decisions[-1].notes[-1].message
    assert [each.message.partition(",")[0] for each in warn_of_next(TEAM, EVERYBODY)] == ["policies/company"]
    assert warn_of_next(TEAM, knowing(COMPANY)) == ()
    [later] = warn_of_next(TEAM, knowing(replace(COMPANY, next_policy="gone")))
    assert later.message.startswith("policies/gone, to which incidents would be handed on by policies/company,")


def test_policies_in_a_ring_come_to_an_end() -> None:
    ring = (named("a", "ana", following="b"), named("b", "ben", following="a"))
    plan = simulate(Story(None).run, Started(ring[0]), NOON, lambda _: knowing(*ring), {})
    who = [page.user for step in plan.steps for page in step.note.pages]
    assert who == (["ana", "ben"] * 3)[: MOST_HAND_ONS + 1]
    assert plan.end.state is State.EXHAUSTED
    assert "handed on 5 times, which is the most" in plan.steps[-1].note.message
    empty = (named("a", "gone", following="b"), named("b", "gone", following="a"))
    assert (
        simulate(Story(None).run, Started(empty[0]), NOON, lambda _: knowing(*empty), {}).end.state is State.EXHAUSTED
    )


def test_a_policy_that_a_person_chooses_may_be_handed_on_as_often_again() -> None:
    story = Story(TEAM, knowing(COMPANY))
    story.passes(5)
    story.timer_fires()
    story.take(Reassigned("users/ana", policy=TEAM))
    assert (story.run.handed_on, story.paged()) == (0, [(1, "ana")])
    story.passes(5)
    story.timer_fires()
    assert story.run.handed_on == 1
    story.take(Restarted("users/ana", TEAM))
    assert story.run.handed_on == 0


def test_a_policy_that_hands_on_to_a_user_is_not_replaced_by_the_fallback_policy() -> None:
    nobody, other = named("team", "gone", following="company"), named("catch-all", "ana")
    assert choose("team", nobody, other, knowing(COMPANY), 1, NOON).policy is nobody
    assert choose("team", nobody, other, knowing(named("company", "gone")), 1, NOON).policy is other
    assert choose("team", nobody, other, EVERYBODY, 1, NOON).policy is other


def test_due_times_do_not_drift_from_policy_to_policy() -> None:
    story = Story(TEAM, knowing(COMPANY))
    story.passes(5.5)
    story.timer_fires()
    assert story.due() == 10
    assert story.decisions[-1].notes[-1].lateness_ms == 30 * 1000
    assert story.now == NOON + 5.5 * MINUTE


def test_a_frozen_policy_keeps_its_next_one() -> None:
    assert from_json(to_json(TEAM)) == TEAM
    assert "next_policy" not in to_json(COMPANY)


def test_policies_that_page_no_user_now_are_tried_once_with_any_number_of_repeats() -> None:
    """Each level that is left out is a row of the timeline, in the transaction in which other incidents wait."""
    levels = [replace(level(user("ana")), condition=Condition(severities=(4,))) for _ in range(20)]
    ring = [replace(policy(*levels, repeat_count=9), id=f"p{n}", next_policy=f"p{(n + 1) % 6}") for n in range(6)]
    story = Story(ring[0], knowing(*ring))
    assert story.run.state is State.EXHAUSTED
    assert story.said().count(NoteKind.LEVEL_PASSED) == 20 * (MOST_HAND_ONS + 1)
    assert NoteKind.REPEATED not in story.said()
