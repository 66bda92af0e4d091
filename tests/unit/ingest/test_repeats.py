"""Batches in which the same message is there many times: decided together, they do what they do one by one."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_ingest.app.alerts.commit_batch import Entry, _Batch
from tocsin_ingest.domain.decision import Alert, AlertState, Decision, Incident, Outcome
from tocsin_ingest.domain.events import AlertsAdded
from tocsin_ingest.domain.expiry import Expiry
from tocsin_ingest.domain.incident_events import Pending
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.silences import Matched, Window
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_ingest.domain.thresholds import Threshold

from tests.rounds import examples
from tests.unit.ingest.model import message

SILENCE = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXPIRIES = (
    *[None] * 4,
    Expiry(at=NOW - timedelta(seconds=1)),
    Expiry(at=NOW + timedelta(minutes=4)),
    Expiry(at=NOW + timedelta(minutes=9)),
    Expiry(after=timedelta(minutes=5)),
)


def counting() -> Callable[[], UUID]:
    numbers = itertools.count(100)
    return lambda: UUID(int=next(numbers))


def snapshot() -> Snapshot:
    made = Snapshot(counting())
    made.put_windows({SILENCE: Window(1, NOW - timedelta(hours=1), NOW + timedelta(hours=1))}, NOW)
    return made


# Made once: to make a strategy costs more than to draw from it.
SIZES = st.integers(1, 6)
KEYS = st.sampled_from("abc")
ACTIONS = st.sampled_from([Action.TRIGGER] * 6 + [Action.RESOLVE, Action.ACKNOWLEDGE, Action.NOTE])
GROUPS = st.sampled_from(["", "g", "g", "h"])
SEVERITIES = st.sampled_from([Severity.CRITICAL, Severity.INFO])
RARELY = st.sampled_from([False, False, False, True])
SOMETIMES = st.sampled_from([False, False, True])
PAUSES = st.sampled_from([None, None, timedelta(minutes=1)])
THRESHOLDS = st.sampled_from([None, None, Threshold(3, timedelta(minutes=1)), Threshold(7, timedelta(hours=1))])
WINDOWS = st.sampled_from([None, None, timedelta(minutes=1), timedelta(hours=1)])
STARTS = st.sampled_from([None, None, NOW - timedelta(minutes=5), NOW])
SEEN = st.sampled_from([None] * 9 + [2])
ENDS = st.sampled_from(EXPIRIES)


@st.composite
def pools(draw: st.DrawFn) -> list[list[Message]]:
    """Batches of a few messages of a few keys and groups, each there again and again: the same object each time."""
    pool = []
    for number in range(draw(SIZES)):
        made = message(
            draw(KEYS),
            draw(ACTIONS),
            group=draw(GROUPS),
            severity=draw(SEVERITIES),
            suppress=draw(RARELY),
            pause=draw(PAUSES),
            threshold=draw(THRESHOLDS),
            window=draw(WINDOWS),
            dedup=draw(WINDOWS),
        )
        silenced = draw(SOMETIMES)
        started = draw(STARTS)
        pool.append(
            replace(
                made,
                summary=f"{made.dedup_key} says {number}",
                silences=(Matched(SILENCE, 1),) if silenced else (),
                started=started,
                ended=NOW if started is not None and made.action is Action.RESOLVE else None,
                # A second look asks whether it fires or is over.
                seen=draw(SEEN) if made.action in (Action.TRIGGER, Action.RESOLVE) else None,
                expiry=draw(ENDS) if made.action is Action.TRIGGER else None,
            )
        )
    return draw(st.lists(st.lists(st.sampled_from(pool), min_size=1, max_size=14), min_size=1, max_size=3))


def told(decision: Decision, more: int) -> tuple[object, ...]:
    """What its sender is told."""
    alert = decision.alert
    if alert is None:
        return (decision.outcome, decision.incident_resolved)
    answer = (
        alert.id,
        alert.key,
        alert.state,
        alert.incident_id,
        alert.count + more,
        alert.hold,
        alert.pause,
        alert.below,
    )
    return (decision.outcome, decision.incident_resolved, *answer)


def state(made: Snapshot) -> tuple[object, ...]:
    """What is written."""
    waiting = (
        made.changed_holds(),
        made.changed_pauses(),
        made.changed_below(),
        made.tallies,
        made.reached,
        made.endings,
    )
    return (made.alerts, made.incidents, made.joined, made.events, made.ended, made.silenced, *waiting)


A, B = message("a", group="g"), message("b", group="g")
PAUSED = message("a", group="g", pause=timedelta(minutes=1))


@settings(max_examples=examples(800), deadline=None)
@given(pools())
@example([[PAUSED, PAUSED, PAUSED, B, PAUSED, PAUSED]])
@example([[PAUSED, PAUSED, replace(B, action=Action.RESOLVE), PAUSED, B, PAUSED]])
def test_repeats_do_together_what_they_do_one_by_one(batches: list[list[Message]]) -> None:
    together, single = snapshot(), snapshot()
    for batch in batches:
        answers = [told(decision, more) for decision, more in together.apply_with_repeats(batch)]
        assert answers == [told(each, 0) for each in single.apply(batch)]
        assert state(together) == state(single)


@settings(max_examples=examples(300), deadline=None)
@given(pools())
def test_messages_in_other_words_do_together_what_they_do_one_by_one(batches: list[list[Message]]) -> None:
    together, single = snapshot(), snapshot()
    numbers = itertools.count()
    for batch in batches:
        # Not all of them are told apart.
        sent = [each.saying(f"{number // 2}", b"%d" % number) for each in batch for number in [next(numbers)]]
        answers = [
            told(decision, more) for decision, more in together.apply_with_repeats(sent, [id(each) for each in batch])
        ]
        assert answers == [told(each, 0) for each in single.apply(sent)]
        assert state(together) == state(single)


def going_on(key: str) -> Snapshot:
    """One in which the alert of the key fires in the incident of the group `g`, which it joined five minutes ago."""
    made = snapshot()
    first = message(key, group="g")
    event = AlertsAdded(7, Severity.INFO, "what was said before", 0)
    incident = Incident(UUID(int=2), first.group_key, Severity.INFO, 7, 1)
    made.put_incident(incident, 3, Pending(event, 11, 3), NOW - timedelta(minutes=5))
    made.put_alert(Alert(UUID(int=3), first.key, AlertState.FIRING, UUID(int=2), 7), NOW - timedelta(minutes=5))
    return made


@settings(max_examples=examples(400), deadline=None)
@given(pools())
@example([[A, A, A, B]])
@example([[B, A, A, A, B, B, A, A]])
@example([[B, B, B, A, A, A, replace(A, action=Action.ACKNOWLEDGE), B, A, A, B, B]])
@example([[B, A, A, A, replace(A, summary="a says more"), B, B, A]])
@example([[B, B, replace(A, dedup_window=timedelta(minutes=5)), A, B, B, A]])
def test_they_continue_an_event_that_was_not_delivered_yet(batches: list[list[Message]]) -> None:
    together, single = going_on("a"), going_on("a")
    together.apply_with_repeats(batches[0])
    single.apply(batches[0])
    assert state(together) == state(single)


LATE, JOINED = replace(PAUSED, group_window=timedelta(minutes=1)), message("c", group="g")


@settings(max_examples=examples(300), deadline=None)
@given(pools())
@example([[LATE, LATE, LATE, JOINED, LATE, LATE]])
def test_they_do_the_same_beside_an_incident_that_some_of_them_come_too_late_for(batches: list[list[Message]]) -> None:
    """Of the rules of a group one may have a window that is over, and another one that is not."""
    together, single = going_on("z"), going_on("z")
    for batch in batches:
        answers = [told(decision, more) for decision, more in together.apply_with_repeats(batch)]
        assert answers == [told(each, 0) for each in single.apply(batch)]
        assert state(together) == state(single)


def test_a_thousand_repeats_are_decided_twice() -> None:
    """The work is per key: each message after the second one only changes a number."""
    decided = 0

    class Counting(Snapshot):
        def _apply_one(self, message: Message) -> Decision:
            nonlocal decided
            decided += 1
            return super()._apply_one(message)

    made = Counting(counting())
    steps = made.apply_with_repeats([A, B] * 1000)
    assert decided == 4
    assert [decision.outcome for decision, _ in steps[:4]] == [
        *(Outcome.OPENED, Outcome.GROUPED, Outcome.DEDUPLICATED, Outcome.DEDUPLICATED)
    ]
    assert sorted(alert.count for alert in made.alerts.values()) == [1000, 1000]
    assert [incident.alert_count for incident in made.incidents.values()] == [2000]


def test_each_of_two_alerts_that_come_late_again_and_again_is_answered_with_its_own_key() -> None:
    late = [Entry("acme", replace(message(key, Action.TRIGGER), started=NOW)) for key in "ab"]
    batch = _Batch(late * 3, {""})
    played = snapshot()
    for each in late:
        played.put_ended(each.message.key, NOW)
    batch.fresh, batch.applied = batch._entries, played.apply_with_repeats([each.message for each in batch._entries])
    answers = [SendAlertResponse.FromString(each) for each in batch.answers() if isinstance(each, bytes)]
    assert {int(each.outcome) for each in answers} == {Outcome.IGNORED.value}
    assert [each.dedup_key for each in answers] == [each.message.dedup_key for each in late] * 3
