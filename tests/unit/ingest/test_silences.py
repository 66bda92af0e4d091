"""Silences without a database: which match, which is in force, and what becomes of an alert that one holds back."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator
from tocsin_ingest.app.integrations.compile_rules import MAX_PROGRAM, check_matchers, compile_usable_matchers
from tocsin_ingest.domain.decision import AlertState, Outcome
from tocsin_ingest.domain.events import Opened
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.routing import MAX_STEPS, Subject
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.silences import Hold, Matched, Silence, Window, hold, matching
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id

from tests.unit.ingest.model import message
from tests.unit.ingest.strategies import Step, steps

EQUAL = MatchOperator.MATCH_OPERATOR_EQUAL
MATCHES = MatchOperator.MATCH_OPERATOR_MATCHES
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B = UUID(int=1), UUID(int=2)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def matcher(label: str, value: str, operator: MatchOperator.ValueType = EQUAL) -> LabelMatcher:
    return LabelMatcher(label=label, operator=operator, value=value)


def silence(*matchers: LabelMatcher, integration: str = "", id: UUID = A) -> Silence:
    [compiled] = compile_usable_matchers([matchers])
    assert compiled is not None
    return Silence(Matched(id, 1), integration, compiled)


def subject(**labels: str) -> Subject:
    return Subject(summary="disk full", source="db1", severity=Severity.ERROR, labels=labels)


@pytest.mark.parametrize(
    ("silenced", "labels", "hit"),
    [
        (silence(matcher("env", "prod")), {"env": "prod"}, True),
        (silence(matcher("env", "prod")), {"env": "test"}, False),
        (silence(matcher("env", "prod"), matcher("team", "db")), {"env": "prod", "team": "web"}, False),
        (silence(matcher("severity", ".*", MATCHES)), {}, True),
        (silence(matcher("summary", "disk .*", MATCHES)), {}, True),
        (silence(integration="prom"), {}, True),
        (silence(integration="other"), {}, False),
        (silence(matcher("env", "prod"), integration="prom"), {"env": "prod"}, True),
    ],
)
def test_a_silence_matches_as_a_routing_rule_does_and_by_its_integration(
    silenced: Silence, labels: dict[str, str], hit: bool
) -> None:
    assert matching([silenced], "prom", subject(**labels)) == ((silenced.matched,) if hit else ())


def test_an_alert_on_which_the_expressions_take_too_long_is_not_silenced() -> None:
    costly = matcher("text", "(a?){300}b", MATCHES)
    [compiled] = compile_usable_matchers([[costly]])
    assert compiled is not None
    often = [Silence(Matched(A, 1), "", compiled)] * (MAX_STEPS // (compiled[0].cost * 1000) + 1)
    assert matching(often, "", subject(text="a" * 1000)) is None


def test_expressions_of_all_silences_together_are_limited() -> None:
    large = matcher("text", "x{300}", MATCHES)
    beside = [[large]] * (MAX_PROGRAM // 300)
    check_matchers([large], beside[:5])
    with pytest.raises(TocsinError) as caught:
        check_matchers([matcher("a", "b"), large], beside)
    assert [each.field for each in caught.value.fields] == ["silence.matchers[1].value"]
    check_matchers([matcher("a", "b")], beside)
    with pytest.raises(TocsinError) as refused:
        check_matchers([matcher("a", "(", MATCHES)], [])
    assert refused.value.reason == ErrorReason.ERROR_REASON_INVALID_FIELD
    assert compile_usable_matchers([*beside, *beside])[-1] is None
    assert compile_usable_matchers([*beside, *beside, [matcher("a", "b")]])[-1] is not None


minutes = st.integers(-5, 5)


@given(minutes, minutes, minutes)
def test_a_silence_holds_from_its_start_on_and_not_at_its_end_any_more(start: int, end: int, now: int) -> None:
    held = hold([Matched(A, 1)], {A: Window(1, at(start), at(end))}, at(now))
    assert held == (Hold(A, at(end)) if start <= now < end else None)


@given(st.lists(st.tuples(minutes, minutes), min_size=1, max_size=4), minutes)
def test_of_several_the_one_that_ends_last_holds(spans: list[tuple[int, int]], now: int) -> None:
    windows = {UUID(int=n): Window(1, at(start), at(end)) for n, (start, end) in enumerate(spans)}
    held = hold([Matched(each, 1) for each in windows], windows, at(now))
    ends = [end for start, end in spans if start <= now < end]
    assert (held.until if held else None) == (at(max(ends)) if ends else None)


def test_a_silence_that_has_changed_since_it_was_asked_holds_for_no_time() -> None:
    changed = {A: Window(2, at(0), at(60))}
    assert hold([Matched(A, 1)], changed, at(5)) == Hold(A, at(5))
    assert hold([Matched(A, 1), Matched(B, 1)], changed | {B: Window(1, at(0), at(9))}, at(5)) == Hold(B, at(9))
    assert hold([Matched(A, 1)], {A: Window(2, at(0), at(5))}, at(5)) is None, "it was ended"
    assert hold([Matched(A, 1)], {}, at(5)) is None, "it is gone"


def quiet(sent: Message) -> Message:
    return replace(sent, silences=(Matched(A, 1),))


def look(sent: Message, count: int) -> Message:
    return replace(sent, seen=count)


def snapshot(now: int = 5, **windows: tuple[int, int]) -> Snapshot:
    """With silence A from minute 0 to 10."""
    made = Snapshot(new_id)
    made.put_windows({A: Window(1, at(0), at(10))}, at(now))
    return made


def test_what_is_silenced_is_counted_and_opens_its_incident_when_the_silence_is_over() -> None:
    made = snapshot()
    first, second = made.apply([quiet(message("a")), quiet(message("a"))])
    assert [each.outcome for each in (first, second)] == [Outcome.SILENCED] * 2
    assert second.alert is not None
    assert (second.alert.state, second.alert.count, second.alert.hold) == (AlertState.SUPPRESSED, 2, Hold(A, at(10)))
    assert not made.incidents
    assert (made.silenced[A].alerts, made.silenced[A].messages) == (1, 2)
    made.put_windows({A: Window(1, at(0), at(10))}, at(10))
    [fired] = made.apply([look(quiet(message("a")), 2)])
    assert fired.alert is not None
    assert (fired.outcome, fired.alert.state, fired.alert.count) == (Outcome.OPENED, AlertState.FIRING, 2)
    assert isinstance(fired.event, Opened)
    assert made.silenced[A].messages == 2, "a look is no message"
    assert made.changed_holds() == {}, "held and let go in one batch"


def test_what_was_resolved_in_a_silence_opens_nothing() -> None:
    made = snapshot()
    outcomes = made.apply([quiet(message("a")), message("a", Action.RESOLVE), look(message("a"), 1)])
    assert [each.outcome for each in outcomes] == [Outcome.SILENCED, Outcome.RESOLVED, Outcome.IGNORED]
    assert not made.incidents


def test_an_incident_that_is_open_is_not_touched() -> None:
    made = snapshot()
    outcomes = made.apply([message("a"), quiet(message("a")), quiet(message("b")), message("a", Action.RESOLVE)])
    assert [each.outcome for each in outcomes] == [
        Outcome.OPENED,
        Outcome.DEDUPLICATED,
        Outcome.SILENCED,
        Outcome.RESOLVED,
    ]


def test_a_look_that_comes_late_does_nothing() -> None:
    made = snapshot()
    made.apply([quiet(message("a"))])
    assert made.apply([look(message("a"), 2)])[0].outcome is Outcome.IGNORED, "another message came meanwhile"
    assert made.apply([look(message("a"), 1)])[0].outcome is Outcome.OPENED
    assert made.apply([look(message("a"), 1)])[0].outcome is Outcome.IGNORED, "another replica was first"
    assert made.apply([look(message("b"), 1)])[0].outcome is Outcome.IGNORED


def test_a_rule_that_suppresses_needs_no_silence_and_outlasts_it() -> None:
    made = snapshot()
    [both] = made.apply([quiet(message("a", suppress=True))])
    assert both.alert is not None
    assert (both.outcome, both.alert.hold) == (Outcome.SUPPRESSED, None)
    made.apply([quiet(message("b"))])
    [after] = made.apply([look(message("b", suppress=True), 1)])
    assert after.alert is not None
    assert (after.outcome, after.alert.state, after.alert.hold) == (Outcome.SUPPRESSED, AlertState.SUPPRESSED, None)


def test_what_was_held_back_joins_one_incident_as_its_rule_says() -> None:
    made = snapshot()
    sent = [quiet(message(key, group="g")) for key in "abc"]
    made.apply(sent)
    made.put_windows({}, at(10))
    fired = made.apply([look(each, 1) for each in sent])
    assert [each.outcome for each in fired] == [Outcome.OPENED, Outcome.GROUPED, Outcome.GROUPED]


spans = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(1, 12)), max_size=4)


@given(steps, spans)
def test_at_no_time_is_an_alert_held_back_that_no_silence_in_force_matches(
    taken: Sequence[Step], silenced: Sequence[tuple[str, int, int]]
) -> None:
    """Every minute: the messages of the minute, then a look at what is due. Then an alert is held if and only if it has to be."""
    windows = {UUID(int=n): Window(1, at(start), at(start + long)) for n, (_, start, long) in enumerate(silenced)}
    made, live, paged = Snapshot(new_id), dict[str, int](), set[str]()

    def sent(key: str, action: Action = Action.TRIGGER) -> Message:
        matched = tuple(Matched(UUID(int=n), 1) for n, (of, _, _) in enumerate(silenced) if of == key)
        return replace(message(key, action), silences=matched if action is Action.TRIGGER else ())

    for minute in range(34):
        made.put_windows(windows, at(minute))
        for step in (each for each in taken if each.minute == minute):
            made.apply([sent(step.key, step.action)])
            if step.action is Action.RESOLVE:
                live.pop(step.key, None)
                paged.discard(step.key)
            else:
                live[step.key] = live.get(step.key, 0) + 1
        alerts = {each.key: each for each in made.alerts.values() if each.state is not AlertState.RESOLVED}
        for key, count in live.items():
            alert = alerts[sent(key).key]
            if alert.hold is not None and alert.hold.until <= at(minute):
                made.apply([look(sent(key), count)])
        alerts = {each.key: each for each in made.alerts.values() if each.state is not AlertState.RESOLVED}
        assert len(alerts) == len(live)
        for key, count in live.items():
            covered = any(of == key and start <= minute < start + long for of, start, long in silenced)
            if not covered:
                paged.add(key)
            alert = alerts[sent(key).key]
            assert alert.count == count
            assert (alert.state is AlertState.FIRING) == (key in paged), (minute, key)
    assert set(live) == paged, "every silence has ended by now"
    assert len(list(itertools.chain(live))) == sum(each.open for each in made.incidents.values())
