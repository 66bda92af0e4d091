"""Incidents that are merged: who is paged, where alerts go, and that none is forgotten in another one."""

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tocsin_escalation.domain.decide import decide
from tocsin_escalation.domain.decision import Decision, NoteKind, Page, Refusal
from tocsin_escalation.domain.escalation import Escalation, Facts, State
from tocsin_escalation.domain.events import (
    Acknowledged,
    AlertsAdded,
    Edited,
    Escalated,
    Event,
    Merged,
    MergedFrom,
    Noted,
    OutcomeKind,
    Reassigned,
    Resolved,
    RespondersAdded,
    Restarted,
    Snoozed,
    Started,
    Unacknowledged,
    Unmerged,
    UnmergedFrom,
)
from tocsin_escalation.domain.merging import events_of_merged, last_of, merge_all, pass_on, passed_on, refuse

from tests.unit.escalation.people import EVERYBODY, MINUTE, NOON, THREE, Story, stale, user

ANA, BEN = "users/ana", "users/ben"
OTHER, THIRD = UUID(int=1), UUID(int=2)


def merged() -> Story:
    story = Story()
    story.take(Merged(ANA, OTHER))
    return story


def test_a_merged_incident_stops_its_pages_and_pages_no_user() -> None:
    story = merged()
    assert (story.run.state, story.run.merged_into, story.run.timer) == (State.MERGED, OTHER, None)
    assert story.stopped() == 1
    assert story.said() == [NoteKind.MERGED]
    assert story.decisions[-1].notes[0].message == f"merged into incidents/{OTHER} by users/ana"
    story.take(stale())
    story.take(AlertsAdded(7, 1, "again", 1))
    assert (story.paged(), story.run.facts.alert_count) == ([], 7)
    assert story.said() == [NoteKind.ALERTS_ADDED]
    story.take(AlertsAdded(8, 1, "again", 0))
    assert story.said() == [], "repeats say nothing"


def test_taken_out_again_it_pages_its_level_anew() -> None:
    story = Story()
    story.passes(5)
    story.timer_fires()
    story.take(Acknowledged(BEN))
    story.take(Merged(ANA, OTHER))
    assert (story.run.acknowledged_by, story.run.assignees) == ("", ())
    story.take(Unmerged(ANA))
    assert story.paged() == [(2, "ben"), (2, "cem")]
    assert (story.run.state, story.run.merged_into, story.due()) == (State.TRIGGERED, None, 10)
    assert story.said() == [NoteKind.UNMERGED, NoteKind.LEVEL_PAGED]


@pytest.mark.parametrize("state", ["exhausted", "snoozed", "before"])
def test_after_any_state_it_pages_when_it_is_taken_out(state: str) -> None:
    story = Story()
    if state == "snoozed":
        story.take(Snoozed(ANA, 60 * MINUTE))
    elif state == "exhausted":
        while story.run.state is not State.EXHAUSTED:
            story.passes(5)
            story.timer_fires()
    story.take(Merged(ANA, OTHER))
    story.take(Unmerged(ANA))
    assert story.run.state is State.TRIGGERED
    assert story.paged()
    assert story.run.timer is not None


@pytest.mark.parametrize(
    "event",
    [
        Acknowledged(BEN),
        Unacknowledged(BEN),
        Snoozed(BEN, MINUTE),
        Escalated(BEN),
        Reassigned(BEN, targets=(user("ana"),)),
        RespondersAdded(BEN, (user("ana"),)),
        Restarted(BEN, THREE),
        Edited(BEN, severity=2),
        Merged(BEN, THIRD),
        MergedFrom(BEN, THIRD, "disk full", 1, 1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_people_act_on_the_other_incident(event: Event) -> None:
    story = merged()
    before = story.run
    assert story.take(event).refusal is Refusal.INCIDENT_MERGED
    assert story.run == before


def test_what_is_not_for_the_other_incident_is_still_taken() -> None:
    story = merged()
    assert story.take(Merged(ANA, OTHER)).already
    story.take(Noted(ANA, "same disk"))
    assert story.said() == [NoteKind.NOTE]
    story.take(Acknowledged("integrations/prom"))
    assert (story.said(), story.run.state) == ([NoteKind.NOTE], State.MERGED)
    story.page_ends("ana", OutcomeKind.SENT)
    assert story.said() == [NoteKind.PAGE_SENT]
    story.take(Merged(ANA, THIRD, along=True))
    assert (story.run.merged_into, story.said()) == (THIRD, [NoteKind.MERGED])


def test_the_end_of_a_merged_incident_is_no_news() -> None:
    told = Story(replace(THREE, status_updates=True))
    told.take(Resolved(BEN))
    assert told.told(), "otherwise the next one says nothing"
    story = Story(replace(THREE, status_updates=True))
    story.take(Merged(ANA, OTHER))
    story.take(Resolved(BEN))
    assert (story.run.state, story.told()) == (State.RESOLVED, [])
    assert story.run.merged_into == OTHER, "the record says where it was"


def test_only_a_merged_incident_is_taken_out() -> None:
    story = Story()
    assert story.take(Unmerged(ANA)).refusal is Refusal.NOT_MERGED
    story.take(Resolved(ANA))
    assert story.take(Unmerged(ANA)).refusal is Refusal.INCIDENT_RESOLVED
    assert story.take(Merged(ANA, OTHER)).refusal is Refusal.INCIDENT_RESOLVED


def test_the_other_incident_becomes_as_severe_as_the_worst_one_in_it_and_pages_so() -> None:
    story = Story()
    story.run = replace(story.run, facts=replace(story.run.facts, severity=3))
    story.take(MergedFrom(ANA, THIRD, "disk full", 1, 2))
    assert story.run.facts.severity == 1
    assert story.paged() == [(1, "ana")], "it became urgent"
    message = f"incidents/{THIRD} (disk full), of 2 alerts, was merged into this one by users/ana"
    assert story.decisions[-1].notes[0].message == message
    story.take(MergedFrom(ANA, OTHER, "disk", 4, 1))
    assert (story.run.facts.severity, story.paged()) == (1, [])
    story.take(UnmergedFrom(ANA, THIRD))
    assert (story.run.facts.severity, story.said()) == (1, [NoteKind.UNMERGED_FROM])


def test_an_alert_of_a_merged_incident_is_told_where_people_look_and_counts_where_it_came() -> None:
    story = Story()
    story.take(AlertsAdded(9, 1, "slow", 1, source=THIRD))
    [note] = story.decisions[-1].notes
    assert note.message == f"an alert of incidents/{THIRD}, which is merged into this one: slow"
    assert story.run.facts.alert_count == 9


def test_a_merge_begins_a_generation_and_so_does_its_end() -> None:
    """Timers and pages of before do nothing any more, and the pages after it are others than those before it."""
    story = Story()
    first, before = story.page_of("ana"), story.run.generation
    story.take(Merged(ANA, OTHER))
    assert (story.run.generation, story.run.pages) == (before + 1, {})
    story.take(Unmerged(ANA))
    assert story.run.generation == before + 2
    assert story.page_of("ana") != first


def test_each_side_says_what_happened_in_full_words() -> None:
    story = Story()
    for event, message in (
        (MergedFrom(ANA, THIRD, "disk full", 1, 1), "(disk full), of 1 alert, was merged into this one by users/ana"),
        (UnmergedFrom(ANA, THIRD), "was taken out of this one by users/ana"),
        (UnmergedFrom("", THIRD), "was taken out of this one by itself"),
        (UnmergedFrom("integrations/prom", THIRD, over=True), "is resolved by integrations/prom"),
    ):
        story.take(event)
        assert story.decisions[-1].notes[0].message == f"incidents/{THIRD} {message}"
    for ended, why in ((Unmerged(ANA), "by users/ana"), (Unmerged("", "it is over"), "because it is over")):
        story = merged()
        story.take(ended)
        assert story.decisions[-1].notes[0].message == f"an incident of its own again, {why}"


def test_a_severity_that_is_not_known_is_no_worse_than_any() -> None:
    story = Story()
    story.run = replace(story.run, facts=replace(story.run.facts, severity=3))
    story.take(MergedFrom(ANA, THIRD, "disk full", 0, 1))
    assert (story.run.facts.severity, story.said()) == (3, [NoteKind.MERGED_FROM])
    story.take(MergedFrom(ANA, THIRD, "disk full", 2, 1))
    assert story.said() == [NoteKind.MERGED_FROM, NoteKind.LEVEL_PAGED]
    story.take(Merged(ANA, OTHER))
    for count, severity, expected in ((5, 0, (5, 2)), (3, 4, (5, 2)), (6, 1, (6, 1))):
        story.take(AlertsAdded(count, severity, "again", 0))
        assert (story.run.facts.alert_count, story.run.facts.severity) == expected


def test_what_comes_late_to_a_merged_incident_changes_nothing() -> None:
    story = merged()
    before = story.run
    story.take(stale())
    assert story.said() == [NoteKind.STALE]
    assert story.take(Started(THREE)).already
    assert story.run == before
    ended = Story()
    ended.take(Resolved(ANA))
    assert ended.take(UnmergedFrom(ANA, THIRD)).already, "the one that was in it goes on"


def test_what_events_mean_for_the_incidents_with_which_theirs_are_merged() -> None:
    run = Story().run
    target, part, over, other = (replace(run, incident_id=UUID(int=number)) for number in range(4))
    into = target.incident_id
    part = replace(part, state=State.MERGED, merged_into=into)
    over = replace(over, state=State.RESOLVED, merged_into=into)
    runs = {each.incident_id: each for each in (target, part, over, other)}
    alert, end, note = AlertsAdded(2, 1, "again", 1), Resolved("integrations/prom"), Noted(ANA, "same disk")
    because = f"incidents/{into}, into which it was merged, is resolved"
    cases: list[tuple[list[tuple[UUID, Event]], list[tuple[UUID, Event]]]] = [
        ([(part.incident_id, alert)], [(into, replace(alert, source=part.incident_id))]),
        ([(part.incident_id, note)], [(into, replace(note, source=part.incident_id))]),
        ([(part.incident_id, end)], [(into, UnmergedFrom("integrations/prom", part.incident_id, over=True))]),
        ([(into, end)], [(part.incident_id, Unmerged("", because))]),
        (
            [(into, end), (part.incident_id, end)],
            [(into, UnmergedFrom("integrations/prom", part.incident_id, over=True))],
        ),
        ([(over.incident_id, event) for event in (alert, note, end)], []),
        ([(other.incident_id, event) for event in (alert, note, end)], []),
        ([(into, alert), (into, note), (part.incident_id, Acknowledged(ANA))], []),
        ([(UUID(int=9), end)], []),
    ]
    for events, meant in cases:
        assert list(events_of_merged(events, runs)) == meant


def test_what_a_person_means_who_answers_a_page_of_a_merged_incident() -> None:
    run = Story().run
    one, two, three = (replace(run, incident_id=UUID(int=number)) for number in range(3))
    ends = replace(one, state=State.MERGED, merged_into=two.incident_id)
    runs = {each.incident_id: each for each in (ends, two, three)}
    into = two.incident_id
    assert pass_on(one.incident_id, Acknowledged(ANA, "sms"), runs) == (into, Acknowledged(ANA, "sms", one.incident_id))
    assert pass_on(one.incident_id, Escalated(ANA), runs) == (into, Escalated(ANA, source=one.incident_id))
    pause = Snoozed(ANA, MINUTE, "link")
    assert pass_on(one.incident_id, pause, runs) == (into, replace(pause, source=one.incident_id))
    for event in (Escalated(ANA, 2), Reassigned(ANA), RespondersAdded(ANA, ())):
        assert pass_on(one.incident_id, event, runs) == (one.incident_id, event), "of its own policy and people"
    assert pass_on(two.incident_id, Acknowledged(ANA), runs) == (into, Acknowledged(ANA))
    gone = {one.incident_id: ends}
    assert pass_on(one.incident_id, Acknowledged(ANA), gone) == (one.incident_id, Acknowledged(ANA))
    along = {**runs, into: replace(two, state=State.MERGED, merged_into=three.incident_id)}
    assert last_of(one.incident_id, along) == three.incident_id
    ring = {**runs, into: replace(two, state=State.MERGED, merged_into=one.incident_id)}
    assert last_of(one.incident_id, ring) in ring, "it comes to an end"
    over = {**runs, one.incident_id: replace(ends, state=State.RESOLVED)}
    assert last_of(one.incident_id, over) == one.incident_id, "it is over, and was merged before"


def test_an_answer_that_was_passed_on_says_where_it_came_from() -> None:
    story = Story()
    story.take(Escalated(ANA, via="call", source=OTHER))
    about = f"in answer to incidents/{OTHER}, which is merged into this one"
    assert story.decisions[-1].notes[0].message == f"escalated to level 2 by users/ana (by call) {about}"
    story.take(Noted(ANA, "same disk", OTHER))
    assert story.decisions[-1].notes[0].message == f"of incidents/{OTHER}, which is merged into this one: same disk"
    story.take(Noted(ANA, "same disk", OTHER, "sms"))
    assert story.decisions[-1].notes[0].message.endswith("which is merged into this one: by sms: same disk")
    told = passed_on(OTHER, Escalated(ANA, via="call"))
    assert told == Noted(ANA, f"escalated (by call): passed on to incidents/{OTHER}, into which this one is merged")
    told = passed_on(OTHER, Snoozed(ANA, MINUTE, "link"))
    assert told == Noted(ANA, f"snoozed (by link): passed on to incidents/{OTHER}, into which this one is merged")


class Incidents(RuleBasedStateMachine):
    """Four incidents that are merged and taken apart in any order, as `advance` does it."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[UUID, Escalation] = {}
        self.ids = [UUID(int=number) for number in range(4)]
        self.paged = set[UUID]()

    @initialize(severities=st.lists(st.integers(1, 4), min_size=4, max_size=4))
    def open(self, severities: list[int]) -> None:
        for id, severity in zip(self.ids, severities, strict=True):
            self.runs[id] = Escalation("acme", id, Facts("db down", "db1", severity, "", NOON))
            self.take([(id, Started(THREE))])

    def take(self, events: Iterable[tuple[UUID, Event]]) -> list[Decision]:
        """One transaction; the decisions about the events themselves."""
        events = list(events)
        before = dict(self.runs)
        self.paged = set()
        decisions = [self.decide(id, event) for id, event in events]
        for id, event in events_of_merged(events, before):
            self.decide(id, event)
        for id in self.paged:
            assert self.runs[id].state is not State.MERGED, "merged, and paged by the same transaction"
        return decisions

    def decide(self, id: UUID, event: Event) -> Decision:
        run = self.runs[id]
        decision = decide(run, event, NOON, EVERYBODY, uuid4())
        if decision.refusal is None:
            self.runs[id] = decision.next
        if any(isinstance(command, Page) and command.level for command in decision.commands):
            self.paged.add(id)
        return decision

    @rule(pair=st.permutations(range(4)))
    def merge(self, pair: list[int]) -> None:
        source, target = self.runs[self.ids[pair[0]]], self.runs[self.ids[pair[1]]]
        parts = [
            run for run in self.runs.values() if run.merged_into == source.incident_id and run.state is State.MERGED
        ]
        if refuse(target) is not None or source.state in (State.MERGED, State.RESOLVED):
            return
        assert not any(decision.refusal for decision in self.take(merge_all(source, target, parts, ANA)))
        for part in (source, *parts):
            assert self.runs[part.incident_id].merged_into == target.incident_id
        assert self.runs[target.incident_id].facts.severity <= source.facts.severity

    @rule(number=st.integers(0, 3))
    def unmerge(self, number: int) -> None:
        run = self.runs[self.ids[number]]
        [decision] = self.take([(run.incident_id, Unmerged(ANA))])
        if run.state is State.MERGED:
            assert self.paged == {run.incident_id}
        else:
            assert decision.refusal is not None

    @rule(number=st.integers(0, 3), severity=st.integers(1, 4), new_keys=st.integers(0, 1))
    def alert(self, number: int, severity: int, new_keys: int) -> None:
        run = self.runs[self.ids[number]]
        self.take([(run.incident_id, AlertsAdded(2, severity, "again", new_keys))])
        if run.state is State.MERGED:
            assert run.merged_into is not None
            assert self.runs[run.merged_into].facts.severity <= severity
            assert self.paged <= {run.merged_into}

    @rule(numbers=st.lists(st.integers(0, 3), min_size=1, unique=True))
    def resolve(self, numbers: list[int]) -> None:
        over = {self.ids[number] for number in numbers}
        left = {
            run.incident_id
            for run in self.runs.values()
            if run.state is State.MERGED and run.merged_into in over and run.incident_id not in over
        }
        ended = {id for id in over if self.runs[id].state is State.RESOLVED}
        self.take([(id, Resolved("integrations/prom")) for id in over])
        assert self.paged == left, "whatever still fires pages by itself again"
        assert all(self.runs[id].state is State.RESOLVED for id in over | ended)

    @invariant()
    def nothing_is_merged_into_what_pages_nobody(self) -> None:
        for run in self.runs.values():
            if run.state is State.MERGED:
                assert run.merged_into is not None
                assert self.runs[run.merged_into].state not in (State.MERGED, State.RESOLVED)
            elif run.state is not State.RESOLVED:
                assert run.merged_into is None


TestIncidents = Incidents.TestCase
TestIncidents.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
