"""A plan of pages is what then happens: the same rules, played to the end."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.escalation import Escalation, State
from tocsin_escalation.domain.events import Acknowledged, Event, OutcomeKind, Started
from tocsin_escalation.domain.on_call import on_call_at
from tocsin_escalation.domain.policy import Directory, GapChoice, OnCall, Policy
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.simulate import HORIZON, Plan, simulate

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, THREE, Story, level, policy, schedule, user
from tests.unit.escalation.schedules.writing import DAILY, EVERY_DAY, hours, layer

WEB = Schedule(
    "web",
    "UTC",
    (layer("ana", "ben", turn=DAILY, start="2026-03-01 00:00", windows=(hours(EVERY_DAY, 8, 18),)),),
)


def people(time: datetime) -> Directory:
    return replace(EVERYBODY, schedules={"web": on_call_at(WEB, minute_of(time))})


def play(run_on: Policy, start: datetime = NOON, event: Event | None = None, **unreachable: str) -> Plan:
    run = Story(run_on).run
    fresh = Escalation("acme", run.incident_id, run.facts)
    return simulate(fresh, event or Started(run_on), start, people, unreachable)


def pages(plan: Plan) -> list[tuple[float, int, list[str]]]:
    """Minutes from noon, the level, and who is paged."""
    return [
        ((step.time - NOON) / MINUTE, step.note.level, [page.user for page in step.note.pages])
        for step in plan.steps
        if step.note.pages
    ]


def test_no_user_answers_and_every_level_is_paged_in_its_time() -> None:
    plan = play(replace(THREE, repeat_count=1))
    once = [(0, 1, ["ana"]), (5, 2, ["ben", "cem"]), (10, 3, ["dora"])]
    assert pages(plan) == once + [(minutes + 15, number, who) for minutes, number, who in once]
    assert (plan.end.state, plan.truncated) == (State.EXHAUSTED, False)
    assert plan.steps[-1].note.kind is NoteKind.EXHAUSTED
    assert plan.next_page_of("dora") == NOON + 10 * MINUTE
    assert plan.next_page_of("nobody") is None


def test_it_ends_because_nobody_answers_or_because_nobody_can_be_reached() -> None:
    """That no provider has taken a page so far would be said of a plan that makes none."""
    assert play(THREE).steps[-1].note.message == "nobody answered and no level is left"
    why = "no contact method"
    assert "nobody was reached" in play(THREE, ana=why, ben=why, cem=why, dora=why).steps[-1].note.message
    some = play(THREE, dora=why)
    assert some.steps[-1].note.message == "nobody answered and no level is left"


def test_the_same_plan_each_time_and_nothing_of_it_stays() -> None:
    story = Story(THREE)
    before = story.run
    assert simulate(before, None, NOON, people, {}) == simulate(before, None, NOON, people, {})
    assert story.run == before


def test_it_is_what_a_real_incident_does() -> None:
    story = Story(replace(THREE, repeat_count=2, fallback_target=user("ana")))
    story.page_ends("ana", OutcomeKind.SENT)
    plan = simulate(story.run, None, NOON, lambda _: EVERYBODY, {})
    happened = []
    while story.run.timer is not None:
        story.now = story.run.timer.due_time
        happened += [(story.now, note) for note in story.timer_fires().notes]
    assert [(step.time, step.note.kind, step.note.message) for step in plan.steps] == [
        (time, note.kind, note.message) for time, note in happened
    ]


def test_the_user_on_call_at_the_time_of_a_level_is_paged() -> None:
    plan = play(policy(level(schedule("web"), minutes=21 * 60), level(schedule("web"), minutes=9 * 60), repeat_count=1))
    first_day = [(0, 1, ["ana"]), (21 * 60, 2, ["ben"])]
    assert pages(plan)[:2] == first_day
    assert (30 * 60, NoteKind.LEVEL_SKIPPED) in [
        ((step.time - NOON) / MINUTE, step.note.kind) for step in plan.steps
    ], "in the evening of the second day the schedule has a gap"


def test_a_level_that_waits_is_paged_when_its_gap_ends() -> None:
    evening = NOON + timedelta(hours=8)
    run_on, looks = policy(level(schedule("web")), on_gap=GapChoice.HOLD), list[datetime]()

    def looking(time: datetime) -> Directory:
        looks.append(time)
        return people(time)

    plan = simulate(Escalation("acme", UUID(int=1), Story(run_on).run.facts), Started(run_on), evening, looking, {})
    assert [step.note.kind for step in plan.steps] == [
        NoteKind.OPENED,
        NoteKind.LEVEL_HELD,
        NoteKind.LEVEL_PAGED,
        NoteKind.EXHAUSTED,
    ]
    assert pages(plan) == [(20 * 60, 1, ["ben"])], "eight in the morning"
    assert len(looks) < 10, "the looks of each minute in between are not played"


def test_a_level_of_which_no_user_can_be_reached_is_left_at_once() -> None:
    plan = play(THREE, ben="no verified contact method", cem="no verified contact method")
    assert pages(plan) == [(0, 1, ["ana"]), (5, 2, ["ben", "cem"]), (5, 3, ["dora"])]
    assert NoteKind.PAGE_UNREACHABLE in [step.note.kind for step in plan.steps]


def test_a_gap_that_never_ends_although_it_should_is_not_played_for_ever() -> None:
    stuck = OnCall((), "schedules/web has a gap", True, NOON - MINUTE, ("ana",))
    run_on = policy(level(schedule("web")), on_gap=GapChoice.HOLD)
    run = Escalation("acme", UUID(int=1), Story(run_on).run.facts)
    plan = simulate(run, Started(run_on), NOON, lambda _: replace(EVERYBODY, schedules={"web": stuck}), {})
    assert plan.truncated


def test_it_ends_within_the_time_that_is_looked_ahead() -> None:
    week = policy(*[level(user("ana"), minutes=7 * 24 * 60)] * 20, repeat_count=9)
    plan = play(week)
    assert plan.truncated
    assert plan.steps[-1].time <= NOON + HORIZON
    again = play(policy(*[level(user("ana"), minutes=1 / 60)] * 20, repeat_count=9))
    assert (again.truncated, len(pages(again))) == (False, 200)


def test_from_an_acknowledged_incident_nothing_follows_unless_the_policy_says_so() -> None:
    story = Story(THREE)
    story.take(Acknowledged("users/ana"))
    assert simulate(story.run, None, NOON, people, {}).steps == ()
    waits = Story(replace(THREE, ack_timeout=30 * MINUTE))
    waits.take(Acknowledged("users/ana"))
    plan = simulate(waits.run, None, NOON, people, {})
    assert pages(plan)[0] == (30, 1, ["ana"])
