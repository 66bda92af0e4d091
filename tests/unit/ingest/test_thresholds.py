"""Thresholds without a database: how triggers are counted, and which of them opens an incident."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin_ingest.app.alerts.own_alerts import OWN
from tocsin_ingest.app.alerts.route_alert import routed
from tocsin_ingest.app.integrations.directory import Routing
from tocsin_ingest.domain.decision import AlertState, Outcome
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.routing import Rule
from tocsin_ingest.domain.silences import Matched, Window
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_ingest.domain.thresholds import SLOTS, Tally, Threshold
from tocsin_kit.ids import new_id

from tests.rounds import examples
from tests.unit.ingest.model import message
from tests.unit.ingest.played import NOON, SILENCE, Played, at

BELOW = Outcome.BELOW_THRESHOLD


def counted(
    key: str = "a", *, count: int = 3, minutes: float = 10, group: str = "g", pause: timedelta | None = None
) -> Message:
    return message(key, group=group, threshold=Threshold(count, timedelta(minutes=minutes)), pause=pause)


def resolved(key: str = "a") -> Message:
    return message(key, Action.RESOLVE)


def quiet(sent: Message) -> Message:
    return replace(sent, silences=(Matched(SILENCE, 1),))


def look(sent: Message, count: int) -> Message:
    return replace(sent, seen=count)


def test_the_trigger_that_reaches_it_opens_and_says_before_how_many_are_missing() -> None:
    played = Played()
    assert played.at(0, counted("a"), counted("b")) == [BELOW, BELOW]
    said = [(each.below.triggers, each.below.threshold.count) for each in played.made.alerts.values() if each.below]
    assert said == [(1, 3), (2, 3)]
    assert played.at(9, counted("a")) == [Outcome.OPENED]
    assert (played.made.reached, played.made.tallies) == ({counted().group_key}, {})
    assert played.at(9, counted("c"), counted("b")) == [Outcome.GROUPED, Outcome.GROUPED]


def test_the_window_rolls() -> None:
    played = Played()
    found = [played.at(minute, counted())[0] for minute in (0, 9, 10, 18.9)]
    assert found == [BELOW, BELOW, BELOW, Outcome.OPENED], "at minute 10 the first one is gone"


def test_each_trigger_counts_and_a_resolve_takes_none_away() -> None:
    played = Played()
    assert played.at(0, counted(), resolved(), counted()) == [BELOW, Outcome.RESOLVED, BELOW]
    assert played.at(1, resolved(), counted()) == [Outcome.RESOLVED, Outcome.OPENED]


def test_after_the_incident_the_count_begins_anew() -> None:
    played = Played()
    assert played.at(0, *[counted()] * 4) == [BELOW, BELOW, Outcome.OPENED, Outcome.DEDUPLICATED]
    assert played.at(1, resolved(), *[counted()] * 3) == [Outcome.RESOLVED, BELOW, BELOW, Outcome.OPENED]


def test_a_batch_of_the_same_message_counts_all_of_it() -> None:
    played = Played()
    same = counted(count=400)
    outcomes = played.at(0, *[same] * 500)
    assert outcomes == [BELOW] * 399 + [Outcome.OPENED] + [Outcome.DEDUPLICATED] * 100
    [alert] = played.made.alerts.values()
    assert alert.count == 500
    assert sorted(each.alert_count for each in played.made.incidents.values()) == [101]


def test_groups_are_counted_apart() -> None:
    played = Played()
    sent = [counted(str(number), group=group) for number in range(2) for group in "gh"]
    assert played.at(0, *sent) == [BELOW] * 4
    assert played.at(0, counted("x", group="g")) == [Outcome.OPENED]
    assert played.at(0, counted("y", group="")) == [BELOW]


def test_what_is_suppressed_silenced_or_paused_does_not_count_and_counts_once_when_it_is_let_go() -> None:
    played = Played()
    late = counted("p", pause=timedelta(minutes=5))
    assert played.at(19, late) == [Outcome.PAUSED]
    assert played.at(20, quiet(counted("q")), late, message("s", group="g", suppress=True)) == [
        *(Outcome.SILENCED, Outcome.PAUSED, Outcome.SUPPRESSED)
    ]
    assert played.at(24, look(late, 2)) == [BELOW]
    assert played.at(25, late) == [BELOW], "its pause does not begin anew"
    assert played.at(30, look(quiet(counted("q")), 1)) == [Outcome.OPENED]


def test_a_rule_that_has_lost_its_threshold_opens_with_the_next_trigger() -> None:
    played = Played()
    assert played.at(0, counted(), message("a", group="g")) == [BELOW, Outcome.OPENED]
    assert played.made.changed_below() == {}, "waited and went in one batch"


def test_what_tocsin_itself_sends_comes_once_and_needs_no_threshold_and_no_window() -> None:
    routing = Routing(
        "prom", None, (Rule(threshold=Threshold(3, timedelta(minutes=10)), dedup_window=timedelta(hours=1)),), ""
    )
    for key in ("disk", *OWN):
        sent, *_ = routed("acme", "users/ana", routing, AlertInput(dedup_key=key, summary="x"))
        assert (sent.threshold is None) == (key in OWN)
        assert (sent.dedup_window is None) == (key in OWN)


minutes = st.lists(st.integers(0, 4000), max_size=60)


@given(minutes, st.integers(1, 1000))
def test_a_count_is_that_of_the_window_to_a_hundredth_in_few_numbers(seconds: list[int], window: int) -> None:
    tally, times, lasts = Tally(), sorted(seconds), timedelta(seconds=window)
    for number, second in enumerate(times):
        now = NOON + timedelta(seconds=second)
        tally = tally.one_more(now, lasts)
        before = times[: number + 1]
        most = sum(second - each < window for each in before)
        least = sum(second - each < window * (1 - 1 / SLOTS) for each in before)
        assert least <= tally.total <= most
        assert len(tally.entries) <= SLOTS + 1


def test_a_flood_is_counted_in_few_numbers() -> None:
    tally, window = Tally(), timedelta(minutes=10)
    for millisecond in range(0, 1_200_000, 50):
        tally = tally.one_more(NOON + timedelta(milliseconds=millisecond), window)
    assert len(tally.entries) <= SLOTS + 1
    assert 11_880 <= tally.total <= 12_000


sends = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("abc"), st.sampled_from([Action.TRIGGER] * 3 + [Action.RESOLVE])),
    max_size=25,
)


@settings(max_examples=examples(300), deadline=None)
@given(sends, st.integers(2, 5), st.booleans(), st.integers(0, 6))
def test_an_incident_opens_when_all_of_the_order_lets_it(
    taken: Sequence[tuple[int, str, Action]], count: int, silenced: bool, pause: int
) -> None:
    """Silence, then the open incident, then the pause, then the threshold, minute by minute beside lists and loops."""
    made, triggers = Snapshot(new_id), list[int]()
    live, fires, first = dict[str, int](), set[str](), dict[str, int]()
    threshold = Threshold(count, timedelta(minutes=10))

    def sent(key: str, action: Action = Action.TRIGGER) -> Message:
        given = message(key, action, group="g", pause=timedelta(minutes=pause) if pause else None, threshold=threshold)
        return quiet(given) if silenced and action is Action.TRIGGER else given

    def expected(key: str, minute: int) -> Outcome:
        if key in fires:
            return Outcome.DEDUPLICATED
        if silenced and 20 <= minute < 30:
            return Outcome.SILENCED
        if fires:
            fires.add(key)
            return Outcome.GROUPED
        if pause and minute < first[key] + pause:
            return Outcome.PAUSED
        triggers.append(minute)
        if sum(each > minute - 10 for each in triggers) < count:
            return BELOW
        triggers.clear()
        fires.add(key)
        return Outcome.OPENED

    for minute in range(50):
        made.put_windows({SILENCE: Window(1, at(20), at(30))}, at(minute))
        for _, key, action in (each for each in taken if each[0] == minute):
            [decision] = made.apply([sent(key, action)])
            if action is Action.RESOLVE:
                live.pop(key, None)
                fires.discard(key)
                first.pop(key, None)
                continue
            live[key] = live.get(key, 0) + 1
            first.setdefault(key, minute)
            assert decision.outcome is expected(key, minute), (minute, key)
        for key in sorted(live):
            alert = next(
                each
                for each in made.alerts.values()
                if each.key == sent(key).key and each.state is not AlertState.RESOLVED
            )
            ends = [alert.hold.until if alert.hold else None, alert.pause.until if alert.pause else None]
            if any(end is not None and end <= at(minute) for end in ends):
                [decision] = made.apply([look(sent(key), live[key])])
                assert decision.outcome is expected(key, minute), (minute, key)
