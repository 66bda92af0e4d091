"""Levels that page one person in turn: who is next, what a miss leads to, and that everybody gets their share."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tocsin_escalation.domain.decision import Decision, NoteKind, TurnTaken
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Escalated,
    OutcomeKind,
    Reassigned,
    RespondersAdded,
    Started,
    Unacknowledged,
)
from tocsin_escalation.domain.policy import Directory, GapChoice, Level, OnCall, Policy, Target
from tocsin_escalation.domain.simulate import simulate
from tocsin_escalation.domain.turns import MOST, line_up, taken
from tocsin_escalation.domain.warnings import warn_of_turns
from tocsin_escalation.store.people.policies import from_json, to_json

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, Story, level, policy, schedule, team, user

ROTA = (user("ana"), team("core"))
"""ana, ben and cem."""
NOBODY = "no verified contact method"


def in_turn(*targets: Target, minutes: float = 5, each: float = 0) -> Level:
    turn = timedelta(minutes=each) if each else None
    return replace(level(*targets, minutes=minutes), in_turn=True, turn_timeout=turn)


class Rota:
    """Incidents one after the other on the same policy; each turn is remembered, as the database does."""

    def __init__(self, run_on: Policy, directory: Directory = EVERYBODY) -> None:
        self.run_on = run_on
        self.directory = directory

    def story(self) -> Story:
        self.at = Story(self.run_on, self.directory)
        self._keep(self.at.decisions[-1])
        return self.at

    def then(self, decision: Decision) -> list[tuple[int, str]]:
        self._keep(decision)
        return self.at.paged()

    def next_is(self) -> str:
        [(_, who)] = self.story().paged()
        return who

    def _keep(self, decision: Decision) -> None:
        self.directory = replace(self.directory, turns=taken(self.directory.turns or {}, decision.commands))
        self.at.directory = self.directory


def test_each_incident_pages_the_next_person_and_then_it_begins_again() -> None:
    rota = Rota(policy(in_turn(*ROTA), level(user("dora"))))
    assert [rota.next_is() for _ in range(7)] == ["ana", "ben", "cem", "ana", "ben", "cem", "ana"]


def test_the_timeline_says_whose_turn_it_is_and_who_is_away() -> None:
    story = Story(policy(in_turn(*ROTA)), replace(EVERYBODY, away=frozenset({"cem"})))
    assert story.decisions[0].notes[-1].message == "level 1: paging users/ana; next of 2 in turn; away: users/cem"


def test_a_user_who_does_not_answer_stays_paged_and_the_next_one_is_paged_within_the_levels_time() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=10, each=3), level(user("dora"))))
    story = rota.story()
    assert (story.paged(), story.due()) == ([(1, "ana")], 3)
    story.passes(3)
    assert rota.then(story.timer_fires()) == [(1, "ben")]
    assert "next in turn, because users/ana has not answered in time" in story.decisions[-1].notes[-1].message
    assert (story.stopped(), story.run.assignees, story.due()) == (None, ("ana", "ben"), 6)
    story.passes(3)
    assert rota.then(story.timer_fires()) == [(1, "cem")]
    assert story.due() == 10, "nobody is left: the level waits until its time is over"
    story.passes(4)
    assert rota.then(story.timer_fires()) == [(2, "dora")]
    assert story.due() == 15
    assert rota.next_is() == "ana", "three people had a turn, so it is the turn of the first"


def test_the_level_ends_in_time_however_many_turns_are_left() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=5, each=3), level(user("dora"))))
    story = rota.story()
    story.passes(3)
    rota.then(story.timer_fires())
    assert story.due() == 5
    story.passes(2)
    assert rota.then(story.timer_fires()) == [(2, "dora")]
    assert rota.next_is() == "cem"


def test_a_person_who_cannot_be_reached_is_passed_over_at_once() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=5), level(user("dora"))))
    story = rota.story()
    assert rota.then(story.page_ends("ana", OutcomeKind.UNREACHABLE, reason=NOBODY)) == [(1, "ben")]
    assert "next in turn, because users/ana cannot be reached" in story.decisions[-1].notes[-1].message
    assert story.due() == 5, "the end of the level does not move"
    story.passes(1)
    assert rota.then(story.page_ends("ben", OutcomeKind.FAILED, reason="bounced")) == [(1, "cem")]
    assert rota.then(story.page_ends("cem", OutcomeKind.UNREACHABLE, reason=NOBODY)) == [(2, "dora")]


def test_a_failure_of_an_earlier_turn_passes_over_no_user() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=10, each=3), level(user("dora"))))
    story = rota.story()
    story.passes(3)
    rota.then(story.timer_fires())
    assert rota.then(story.page_ends("ana", OutcomeKind.FAILED, reason="bounced")) == []
    assert rota.then(story.page_ends("ben", OutcomeKind.UNREACHABLE, reason=NOBODY)) == [(1, "cem")]
    assert rota.then(story.page_ends("cem", OutcomeKind.UNREACHABLE, reason=NOBODY)) == [(2, "dora")]


def test_a_person_who_was_reached_and_has_not_answered_keeps_the_level_to_its_end() -> None:
    rota = Rota(policy(in_turn(user("ana"), user("ben"), minutes=10, each=3), level(user("dora"))))
    story = rota.story()
    story.page_ends("ana", OutcomeKind.SENT)
    story.passes(3)
    rota.then(story.timer_fires())
    assert rota.then(story.page_ends("ben", OutcomeKind.UNREACHABLE, reason=NOBODY)) == []
    assert story.due() == 10


def test_who_is_away_has_a_turn_only_when_no_other_user_is_there() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=10, each=3)), replace(EVERYBODY, away=frozenset({"ben"})))
    assert [rota.next_is() for _ in range(3)] == ["ana", "cem", "ana"]
    rota.directory = replace(rota.directory, away=frozenset())
    assert rota.next_is() == "ben", "back, and the turn that was longest ago is theirs"
    rota.directory = replace(rota.directory, away=frozenset({"ana", "ben", "cem"}))
    assert rota.next_is() == "cem"


def test_a_disabled_or_unknown_user_has_no_turn() -> None:
    rota = Rota(policy(in_turn(user("gone"), user("ana"), user("ben"))))
    assert [rota.next_is() for _ in range(3)] == ["ana", "ben", "ana"]


def test_the_user_on_call_has_the_turn_of_their_schedule() -> None:
    day = replace(
        EVERYBODY, schedules={"web": OnCall(("ana",), "ana is on call"), "api": OnCall(("ben",), "ben is on call")}
    )
    rota = Rota(policy(in_turn(schedule("web"), schedule("api"))), day)
    assert [rota.next_is() for _ in range(3)] == ["ana", "ben", "ana"]
    night = {"web": OnCall(("cem",), "cem is on call"), "api": OnCall(("ben",), "ben is on call")}
    rota.directory = replace(rota.directory, schedules=night)
    assert [rota.next_is() for _ in range(3)] == ["cem", "ben", "cem"]


def test_two_levels_of_one_policy_page_two_people() -> None:
    rota = Rota(policy(in_turn(*ROTA), in_turn(*ROTA)))
    story = rota.story()
    story.passes(5)
    assert rota.then(story.timer_fires()) == [(2, "ben")]
    assert rota.next_is() == "cem"


def test_an_outage_longer_than_the_level_goes_on_to_the_next_one() -> None:
    story = Story(policy(in_turn(*ROTA, minutes=10, each=3), level(user("dora"))))
    story.passes(60)
    story.timer_fires()
    assert (story.paged(), story.due()) == ([(2, "dora")], 65)


def test_an_acknowledge_stops_the_turns_and_giving_it_back_pages_the_next_person() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=10, each=3)))
    story = rota.story()
    rota.then(story.take(Acknowledged("users/ana")))
    assert (story.run.state, story.run.timer) == (State.ACKNOWLEDGED, None)
    assert rota.then(story.take(Unacknowledged("users/ana"))) == [(1, "ben")]


def test_a_level_of_turns_is_skipped_by_a_person_who_escalates() -> None:
    rota = Rota(policy(in_turn(*ROTA, each=1), level(user("dora"))))
    story = rota.story()
    assert rota.then(story.take(Escalated("users/ana"))) == [(2, "dora")]


def test_people_it_is_handed_to_are_all_paged_and_no_turn_follows_when_they_cannot_be_reached() -> None:
    rota = Rota(policy(in_turn(*ROTA, each=1), level(user("ben"))))
    story = rota.story()
    assert rota.then(story.take(Reassigned("users/ana", (user("dora"), user("cem"))))) == [(1, "dora"), (1, "cem")]
    story.page_ends("dora", OutcomeKind.UNREACHABLE, reason=NOBODY)
    assert rota.then(story.page_ends("cem", OutcomeKind.UNREACHABLE, reason=NOBODY)) == [(2, "ben")]


def test_a_person_who_was_asked_for_still_has_their_turn() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=10, each=3)))
    story = rota.story()
    story.take(RespondersAdded("users/ana", (user("ben"),)))
    story.passes(3)
    assert rota.then(story.timer_fires()) == [(1, "ben")]
    assert story.run.assignees == ("ana", "ben")
    assert rota.then(story.page_ends("ben", OutcomeKind.UNREACHABLE, reason=NOBODY)) == [(1, "cem")]


def test_an_incident_that_becomes_urgent_pages_those_who_had_turns_and_the_turns_go_on() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=10, each=3)))
    story = rota.story()
    story.run = replace(story.run, facts=replace(story.run.facts, severity=3))
    story.passes(3)
    rota.then(story.timer_fires())
    assert rota.then(story.take(AlertsAdded(2, 1, "worse", 1))) == [(1, "ana"), (1, "ben")]
    assert story.due() == 6
    story.passes(3)
    assert rota.then(story.timer_fires()) == [(1, "cem")]
    assert story.due() == 13


def test_a_gap_of_the_schedule_pages_all_of_the_fallback_target() -> None:
    web = OnCall((), "web has a gap", True, NOON + 60 * MINUTE, ("ana",))
    run_on = policy(in_turn(schedule("web"), each=1), on_gap=GapChoice.FALLBACK, fallback_target=team("core"))
    story = Story(run_on, replace(EVERYBODY, schedules={"web": web}))
    assert (story.paged(), story.due()) == ([(1, "ben"), (1, "cem")], 5)


def test_a_simulation_takes_the_turns_that_an_incident_would() -> None:
    run_on = policy(in_turn(*ROTA, minutes=10, each=3), level(user("dora")), repeat_count=1)
    there = replace(EVERYBODY, turns={"night": ("cem", "ana")})
    run = replace(Story(None).run, state=State.TRIGGERED, policy=None)
    plan = simulate(run, Started(run_on), NOON, lambda _: there, {"cem": NOBODY})
    paged = [
        ((step.time - NOON) / MINUTE, step.note.level, [page.user for page in step.note.pages])
        for step in plan.steps
        if step.note.pages
    ]
    first = [(0, 1, ["ben"]), (3, 1, ["cem"]), (3, 1, ["ana"]), (10, 2, ["dora"])]
    assert paged == first + [(minutes + 15, number, who) for minutes, number, who in first]


def test_a_level_warns_of_turns_that_are_passed_over() -> None:
    run_on = policy(in_turn(*ROTA), level(team("core")))
    [warned] = warn_of_turns(run_on, EVERYBODY, {"ben": NOBODY})
    assert (warned.level, warned.target) == (1, team("core"))
    assert warned.message == (
        "level 1 passes over the turns of some people of teams/core, who cannot be reached (ben: no verified contact method)"
    )
    assert warn_of_turns(run_on, EVERYBODY, {"ben": NOBODY, "cem": NOBODY}) == (), (
        "nobody at all is a warning of its own"
    )


def test_a_frozen_policy_keeps_its_turns_and_one_of_an_earlier_release_has_none() -> None:
    run_on = policy(in_turn(*ROTA, each=2), level(user("dora")))
    assert from_json(to_json(run_on)) == run_on
    assert "turn" not in to_json(policy(level(user("dora"))))


def test_what_is_remembered_of_turns_is_bounded() -> None:
    turns = taken({}, [TurnTaken("night", f"user{number}") for number in range(MOST + 7)])
    assert len(turns["night"]) == MOST
    assert turns["night"][-1] == f"user{MOST + 6}"


@given(
    people=st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True),
    gone=st.lists(st.sets(st.sampled_from("abcdefgh")), min_size=8, max_size=40),
)
def test_no_user_waits_for_a_turn_longer_than_everybody_who_is_there(people: list[str], gone: list[set[str]]) -> None:
    """With any changes of the members: the chosen person is present, and no present person has waited longer."""
    run_on, turns = policy(in_turn(*map(user, people))), dict[str, tuple[str, ...]]()
    last: dict[str, int] = {}
    for number, away in enumerate(gone):
        directory = Directory(frozenset(people), turns=turns, away=frozenset(away))
        line = line_up(run_on, people, directory)
        there = [each for each in people if each not in away] or people
        assert sorted(line) == sorted(there)
        assert last.get(line[0], -1) == min(last.get(each, -1) for each in there)
        turns, last[line[0]] = taken(turns, [TurnTaken(run_on.id, line[0])]), number


@given(people=st.integers(1, 6), rounds=st.integers(1, 5), missed=st.sets(st.integers(0, 40)))
def test_everybody_has_the_same_number_of_turns(people: int, rounds: int, missed: set[int]) -> None:
    """Also when some of them miss theirs, and the next one has an early turn."""
    names = [f"user{number}" for number in range(people)]
    rota = Rota(policy(in_turn(*map(user, names), minutes=10, each=3)), Directory(frozenset(names)))
    counted = Counter[str]()
    for number in range(people * rounds):
        story = rota.story()
        counted.update(who for _, who in story.paged())
        if number in missed and people > 1:
            story.passes(3)
            counted.update(who for _, who in rota.then(story.timer_fires()))
    assert max(counted.values()) - min(counted[name] for name in names) <= 1


def test_said_as_a_level_that_is_paged() -> None:
    rota = Rota(policy(in_turn(*ROTA, minutes=10, each=3)))
    story = rota.story()
    story.passes(3.5)
    rota.then(story.timer_fires())
    [note] = story.decisions[-1].notes
    assert (note.kind, note.lateness_ms) == (NoteKind.LEVEL_PAGED, 30_000)
    assert story.due() == 6, "lateness does not add up"
