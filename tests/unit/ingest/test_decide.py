"""What one message does, and a sequence of them against the naive model."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, lists, tuples
from tocsin_ingest.domain.decision import AlertState, Incident, Outcome
from tocsin_ingest.domain.events import Acknowledged, AlertsAdded, Event, Noted, Opened, Resolved
from tocsin_ingest.domain.incident_events import Pending
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_kit.ids import new_id

from tests.rounds import examples
from tests.unit.ingest.model import Naive, message
from tests.unit.ingest.strategies import batches


def outcomes(*sent: Message) -> list[Outcome]:
    return [decision.outcome for decision in Snapshot(new_id).apply(sent)]


def test_the_first_opens_the_second_is_a_duplicate() -> None:
    assert outcomes(message("a"), message("a")) == [Outcome.OPENED, Outcome.DEDUPLICATED]


def test_a_new_key_of_the_group_joins_its_incident() -> None:
    assert outcomes(message("a", group="g"), message("b", group="g")) == [Outcome.OPENED, Outcome.GROUPED]
    assert outcomes(message("a"), message("b")) == [Outcome.OPENED, Outcome.OPENED]


def test_the_incident_closes_with_its_last_firing_alert() -> None:
    snapshot = Snapshot(new_id)
    sent = (
        message("a", group="g"),
        message("b", group="g"),
        message("a", Action.RESOLVE),
        message("b", Action.RESOLVE),
    )
    assert [decision.incident_resolved for decision in snapshot.apply(sent)] == [False, False, False, True]


def test_an_alert_never_joins_a_resolved_incident() -> None:
    first, _, again = Snapshot(new_id).apply((message("a"), message("a", Action.RESOLVE), message("a")))
    assert again.outcome is Outcome.OPENED
    assert again.incident is not None
    assert first.incident is not None
    assert again.incident.id != first.incident.id


def test_what_is_not_firing_is_ignored() -> None:
    assert outcomes(message("a", Action.RESOLVE), message("a", Action.ACKNOWLEDGE)) == [Outcome.IGNORED] * 2


def test_a_suppressed_alert_begins_to_fire_as_the_same_alert() -> None:
    snapshot = Snapshot(new_id)
    quiet, loud = snapshot.apply((message("a", suppress=True), message("a")))
    assert (quiet.outcome, loud.outcome) == (Outcome.SUPPRESSED, Outcome.OPENED)
    assert quiet.alert is not None
    assert loud.alert is not None
    assert quiet.incident is None
    assert (loud.alert.id, loud.alert.count) == (quiet.alert.id, 2)


def test_a_firing_alert_is_not_silenced_by_a_new_rule() -> None:
    assert outcomes(message("a"), message("a", suppress=True)) == [Outcome.OPENED, Outcome.DEDUPLICATED]


def test_severity_rises_and_never_falls() -> None:
    snapshot = Snapshot(new_id)
    decisions = snapshot.apply(
        (
            message("a", severity=Severity.INFO),
            message("a", severity=Severity.CRITICAL),
            message("a", severity=Severity.WARNING),
        )
    )
    assert [each.incident.severity for each in decisions if each.incident] == [
        Severity.INFO,
        Severity.CRITICAL,
        Severity.CRITICAL,
    ]
    assert isinstance(decisions[1].event, AlertsAdded)
    assert decisions[1].event.urgent
    assert isinstance(decisions[2].event, AlertsAdded)
    assert not decisions[2].event.urgent


def test_a_storm_in_one_batch_is_one_event() -> None:
    snapshot = Snapshot(new_id)
    snapshot.apply([message("a")] * 1000)
    ((event,),) = [events.new for events in snapshot.events.values()]
    assert isinstance(event, Opened)
    assert event.alert_count == 1000


def test_folded_events_add_up_what_is_new_and_keep_what_is_urgent() -> None:
    snapshot = Snapshot(new_id)
    snapshot.apply((message("a", group="g"), message("a", Action.ACKNOWLEDGE)))
    snapshot.apply([message(key, group="g", severity=Severity.CRITICAL) for key in "bcc"])
    (events,) = snapshot.events.values()
    last = events.new[-1]
    assert last == AlertsAdded(4, Severity.CRITICAL, "c is wrong", new_keys=2, worse=True)
    assert last.urgent


def test_events_keep_their_order_around_an_acknowledge() -> None:
    snapshot = Snapshot(new_id)
    snapshot.apply(
        (message("a"), message("a", Action.ACKNOWLEDGE), message("a"), message("a"), message("a", Action.RESOLVE))
    )
    (events,) = snapshot.events.values()
    assert [type(each) for each in events.new] == [Opened, Acknowledged, AlertsAdded, Resolved]
    assert events.last_sequence == 4


@settings(max_examples=examples(150), deadline=None)
@given(batches)
def test_any_sequence_does_what_the_model_does(given_batches: list[list[Message]]) -> None:
    naive, stored = Naive(), Stored()
    for batch in given_batches:
        expected = [naive.send(each) for each in batch]
        snapshot = stored.snapshot()
        decisions = snapshot.apply(batch)
        stored.keep(snapshot)
        assert [
            (each.outcome, each.alert.count if each.alert else 0, each.incident_resolved) for each in decisions
        ] == expected
        opened = sorted((each.group_key, each.severity, each.messages, len(each.keys)) for each in naive.incidents)
        assert stored.summary() == opened
    stored.check_events()


class Stored:
    """Stands in for the database between two batches."""

    def __init__(self) -> None:
        self._snapshots: list[Snapshot] = []
        self._heard: dict[UUID, list[Event]] = {}

    def snapshot(self) -> Snapshot:
        fresh = Snapshot(new_id)
        for incident in self._incidents().values():
            if incident.open:
                events = self._heard[incident.id]
                last = events[-1]
                pending = Pending(last, len(events), len(events)) if isinstance(last, AlertsAdded) else None
                fresh.put_incident(incident, len(events), pending)
        for alert in {key: each for snapshot in self._snapshots for key, each in snapshot.alerts.items()}.values():
            if alert.state is not AlertState.RESOLVED:
                fresh.put_alert(alert)
        return fresh

    def keep(self, snapshot: Snapshot) -> None:
        self._snapshots.append(snapshot)
        for incident_id, events in snapshot.events.items():
            heard = self._heard.setdefault(incident_id, [])
            if events.rewritten:
                assert events.pending is not None
                heard[-1] = events.pending.event
            assert events.sequence == len(heard)
            heard.extend(events.new)

    def summary(self) -> Sequence[tuple[UUID, Severity, int, int]]:
        incidents = self._incidents().values()
        return sorted((each.group_key, each.severity, each.alert_count, each.firing_count) for each in incidents)

    def check_events(self) -> None:
        """Each incident's events begin with its opening, end with its end, and tell its count and severity."""
        for incident in self._incidents().values():
            events = self._heard[incident.id]
            assert isinstance(events[0], Opened)
            assert not any(isinstance(each, Opened) for each in events[1:])
            assert [isinstance(each, Resolved) for each in events] == [False] * (len(events) - 1) + [not incident.open]
            counts = [each for each in events if isinstance(each, (Opened, AlertsAdded))]
            assert (counts[-1].alert_count, counts[-1].severity) == (incident.alert_count, incident.severity)
            # Escalation hears of duplicates only once in a row: they were folded.
            pairs = itertools.pairwise(events)
            assert not any(isinstance(one, AlertsAdded) and isinstance(two, AlertsAdded) for one, two in pairs)

    def _incidents(self) -> dict[UUID, Incident]:
        return {key: each for snapshot in self._snapshots for key, each in snapshot.incidents.items()}


def at(minute: int) -> datetime:
    return datetime(2026, 3, 14, 3, minute, tzinfo=UTC)


def fires(start: int) -> Message:
    return replace(message("a"), started=at(start))


def ends(start: int, end: int) -> Message:
    return replace(message("a", Action.RESOLVE), started=at(start), ended=at(end))


def test_a_copy_of_a_firing_that_is_over_is_ignored() -> None:
    assert outcomes(fires(1), ends(1, 2), fires(1)) == [Outcome.OPENED, Outcome.RESOLVED, Outcome.IGNORED]


def test_a_resolve_that_overtakes_its_firing_keeps_it_from_opening_anything() -> None:
    assert outcomes(ends(1, 2), fires(1)) == [Outcome.IGNORED, Outcome.IGNORED]


def test_the_next_firing_of_the_key_opens_its_incident() -> None:
    assert outcomes(fires(1), ends(1, 2), fires(3)) == [Outcome.OPENED, Outcome.RESOLVED, Outcome.OPENED]


def test_a_late_resolve_leaves_the_next_firing_alone() -> None:
    assert outcomes(fires(1), ends(1, 2), fires(3), ends(1, 2)) == [
        Outcome.OPENED,
        Outcome.RESOLVED,
        Outcome.OPENED,
        Outcome.IGNORED,
    ]


def test_a_late_resolve_is_known_by_its_end_alone() -> None:
    late = replace(ends(1, 2), started=None)
    assert outcomes(fires(3), late) == [Outcome.OPENED, Outcome.IGNORED]


def test_two_servers_that_know_a_firing_by_two_starts_end_it_together() -> None:
    assert outcomes(fires(3), fires(1), ends(1, 5)) == [Outcome.OPENED, Outcome.DEDUPLICATED, Outcome.RESOLVED]
    assert outcomes(fires(1), fires(3), ends(3, 5)) == [Outcome.OPENED, Outcome.DEDUPLICATED, Outcome.RESOLVED]


def test_without_times_nothing_is_late() -> None:
    assert outcomes(fires(1), ends(1, 2), message("a")) == [Outcome.OPENED, Outcome.RESOLVED, Outcome.OPENED]
    assert outcomes(message("a"), ends(1, 2), message("a", Action.RESOLVE)) == [
        Outcome.OPENED,
        Outcome.RESOLVED,
        Outcome.IGNORED,
    ]


@given(lists(tuples(booleans(), integers(0, 8), integers(0, 3)), max_size=20))
def test_in_any_order_of_messages_no_firing_that_is_over_opens_an_incident(sent: list[Any]) -> None:
    """A firing opens an incident only if no resolve of it or of a later one came before."""
    snapshot, over = Snapshot(new_id), -1
    for firing, start, length in sent:
        sends = fires(start) if firing else ends(start, start + length)
        (decision,) = snapshot.apply([sends])
        if not firing:
            over = max(over, start)
        elif decision.outcome is Outcome.OPENED:
            assert start > over


def test_a_note_goes_to_the_incident_of_what_fires_and_changes_nothing() -> None:
    snapshot = Snapshot(new_id)
    opened, noted = snapshot.apply((message("a"), message("a", Action.NOTE)))
    assert noted.outcome is Outcome.NOTED
    assert (noted.alert, noted.incident) == (opened.alert, opened.incident)
    assert noted.event == Noted("integrations/prom", "a is wrong")
    assert outcomes(message("b", Action.NOTE)) == [Outcome.IGNORED]
    assert outcomes(message("b", suppress=True), message("b", Action.NOTE))[1:] == [Outcome.IGNORED]
