"""What a check of a policy shows of the plan that a simulation plays."""

from dataclasses import replace

from tocsin_escalation.app.foresight.check_policy import MOST_STEPS, forecast
from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Started
from tocsin_escalation.domain.policy import Policy
from tocsin_escalation.domain.simulate import Plan, simulate

from tests.unit.escalation.people import EVERYBODY, NOON, THREE, Story, level, policy, user


def plan(run_on: Policy, **unreachable: str) -> Plan:
    run = replace(Story(None).run, state=State.TRIGGERED)
    return simulate(run, Started(run_on), NOON, lambda _: EVERYBODY, unreachable)


def test_each_level_is_shown_once_with_what_follows_the_last_one() -> None:
    shown = forecast(NOON, plan(THREE))
    assert [(step.note.kind, step.note.level) for step in shown.steps] == [
        (NoteKind.LEVEL_PAGED, 1),
        (NoteKind.LEVEL_PAGED, 2),
        (NoteKind.LEVEL_PAGED, 3),
        (NoteKind.EXHAUSTED, 0),
    ]
    again = forecast(NOON, plan(replace(THREE, repeat_count=5)))
    assert [step.note.kind for step in again.steps][-1] is NoteKind.REPEATED
    assert (len(again.steps), again.truncated) == (4, False)


def test_outcomes_are_left_out_and_the_level_that_reaches_no_user_is_shown_as_skipped() -> None:
    shown = forecast(NOON, plan(policy(level(user("ana")), level(user("ben"))), ana="no verified contact method"))
    assert [step.note.kind for step in shown.steps] == [
        NoteKind.LEVEL_PAGED,
        NoteKind.LEVEL_SKIPPED,
        NoteKind.LEVEL_PAGED,
        NoteKind.EXHAUSTED,
    ]


def test_what_is_cut_says_so() -> None:
    week = policy(*[level(user("ana"), minutes=7 * 24 * 60)] * 20)
    shown = forecast(NOON, plan(week))
    assert (shown.truncated, len(shown.steps) < 20) == (True, True)
    played = plan(policy(*[level(user("ana"))] * 20))
    many = replace(played, steps=played.steps[1:2] * (MOST_STEPS + 1))
    assert (len(forecast(NOON, many).steps), forecast(NOON, many).truncated) == (MOST_STEPS, True)
