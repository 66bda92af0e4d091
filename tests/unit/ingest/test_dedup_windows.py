"""Keys with a dedup window, without a database: which triggers repeat the alert that fires, and which begin another one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_ingest.domain.decision import Alert, AlertState, Outcome
from tocsin_ingest.domain.dedup_windows import ends
from tocsin_ingest.domain.events import AlertsAdded, Noted, Opened, Resolved
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.silences import Matched
from tocsin_ingest.domain.thresholds import Threshold

from tests.rounds import examples
from tests.unit.ingest.model import message
from tests.unit.ingest.played import NOON, SILENCE, Played, at

FIVE = timedelta(minutes=5)
OPENED, JOINED, REPEATED, RESOLVED = Outcome.OPENED, Outcome.GROUPED, Outcome.DEDUPLICATED, Outcome.RESOLVED


def sent(
    key: str = "a", dedup: timedelta | None = FIVE, *, group: str = "", window: timedelta | None = None
) -> Message:
    return message(key, group=group, dedup=dedup, window=window)


def over(key: str = "a") -> Message:
    return message(key, Action.RESOLVE, dedup=FIVE)


def states(played: Played) -> list[AlertState]:
    return [each.state for each in played.made.alerts.values()]


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        (timedelta(), REPEATED),
        (FIVE - timedelta(microseconds=1), REPEATED),
        (FIVE, OPENED),
        (FIVE + timedelta(microseconds=1), OPENED),
        (-timedelta(hours=1), REPEATED),
    ],
)
def test_the_end_of_the_window_is_no_more_in_it(later: timedelta, outcome: Outcome) -> None:
    played = Played()
    played.at(0, sent())
    assert played.at(later / timedelta(minutes=1), sent()) == [outcome]


def test_each_repeat_lets_it_begin_anew_and_what_comes_later_is_a_new_alert_beside_the_open_incident() -> None:
    played = Played()
    assert played.at(0, sent()) == [OPENED]
    assert played.at(4, sent(), sent()) == [REPEATED, REPEATED]
    assert played.at(8, sent()) == [REPEATED], "four minutes after the last one"
    assert played.at(13, sent(), sent()) == [OPENED, REPEATED]
    assert [each.count for each in played.made.alerts.values()] == [4, 2]
    assert states(played) == [AlertState.RESOLVED, AlertState.FIRING]
    assert played.open() == [1, 1], "nobody has said that the older one is over"
    first, second = played.made.events.values()
    [opened, left] = first.new
    assert isinstance(opened, Opened)
    assert isinstance(left, Noted)
    assert [type(each) for each in second.new] == [Opened, Noted, AlertsAdded]


def test_a_resolve_is_one_of_the_newer_alert() -> None:
    played = Played()
    played.at(0, sent())
    played.at(6, sent())
    assert played.at(7, over(), over()) == [RESOLVED, Outcome.IGNORED]
    assert played.open() == [1]
    first, second = played.made.events.values()
    assert not any(isinstance(each, Resolved) for each in first.new)
    assert isinstance(second.new[-1], Resolved)
    assert played.at(8, sent()) == [OPENED], "the older one is not joined again"
    assert played.open() == [1, 1]


def test_alerts_of_a_group_go_on_together_in_one_newer_incident() -> None:
    played = Played()
    assert played.at(0, sent("a", group="g"), sent("b", group="g"), sent("c", group="g")) == [OPENED, JOINED, JOINED]
    assert played.at(4, sent("c", group="g")) == [REPEATED]
    assert played.at(6, sent("a", group="g"), sent("b", group="g"), sent("c", group="g")) == [OPENED, JOINED, REPEATED]
    assert played.open() == [3, 2]
    assert [type(each) for each in next(iter(played.made.events.values())).new].count(Noted) == 1, (
        "a note, not one each"
    )
    assert played.at(7, over("c")) == [RESOLVED]
    assert played.open() == [2, 2], "it stays open for what ended unheard"


def test_the_window_of_the_group_counts_for_the_newer_incident_as_well() -> None:
    played = Played()
    played.at(0, sent("a", group="g", window=FIVE), sent("b", group="g", window=FIVE))
    assert played.at(6, sent("a", group="g", window=FIVE)) == [OPENED]
    assert played.at(12, sent("b", group="g", window=FIVE)) == [OPENED], "both windows are over"
    assert played.open() == [2, 1, 1]


def test_a_worse_repeat_raises_the_severity_and_a_later_one_has_its_own() -> None:
    played = Played()
    warning = replace(sent(), severity=Severity.WARNING)
    played.at(0, warning)
    assert played.at(4, replace(sent(), severity=Severity.CRITICAL)) == [REPEATED]
    assert played.at(9, warning) == [OPENED]
    assert [each.severity for each in played.made.incidents.values()] == [Severity.CRITICAL, Severity.WARNING]


def test_the_rule_of_the_trigger_that_comes_decides() -> None:
    played = Played()
    played.at(0, sent())
    assert played.at(6, sent(dedup=None)) == [REPEATED], "without a window until it is resolved"
    assert played.at(12, sent(dedup=2 * FIVE)) == [REPEATED]
    assert played.at(17, sent()) == [OPENED]


def test_a_pause_begins_anew_once_and_is_over_however_often_it_is_repeated() -> None:
    played = Played()
    paused = replace(sent(dedup=timedelta(minutes=1)), pause=timedelta(minutes=3))
    assert played.at(0, paused) == [Outcome.PAUSED]
    assert played.at(2, paused) == [Outcome.PAUSED], "an alert without an incident has no window"
    assert played.at(3, replace(paused, seen=2)) == [OPENED]
    assert played.at(5, paused) == [Outcome.PAUSED]
    assert played.at(7, paused) == [Outcome.PAUSED]
    assert played.at(8, replace(paused, seen=2)) == [OPENED]
    assert played.open() == [1, 1]


def test_below_a_threshold_the_newer_alert_waits_for_others_and_the_older_incident_stays() -> None:
    played = Played()
    of_two = replace(sent(), threshold=Threshold(2, timedelta(minutes=10)))
    assert played.at(0, of_two, of_two) == [Outcome.BELOW_THRESHOLD, OPENED]
    assert played.at(6, of_two) == [Outcome.BELOW_THRESHOLD]
    assert played.open() == [1]
    assert played.at(12, of_two) == [OPENED]
    assert played.open() == [1, 1]


def test_what_a_silence_holds_back_opens_another_incident_when_that_ends() -> None:
    played = Played()
    silenced = replace(sent(), silences=(Matched(SILENCE, 1),))
    assert played.at(14, sent()) == [OPENED]
    assert played.at(20, silenced) == [Outcome.SILENCED]
    assert played.open() == [1], "nothing is taken from those who are on it"
    assert played.at(29, silenced) == [Outcome.SILENCED]
    assert played.at(30, replace(silenced, seen=2)) == [OPENED]
    assert played.at(33, sent()) == [REPEATED]
    assert played.open() == [1, 1]


def test_a_late_copy_of_a_firing_that_is_over_begins_none() -> None:
    played = Played()
    start = NOON - timedelta(hours=1)
    played.at(0, replace(sent(), started=start))
    played.at(1, replace(over(), started=start, ended=NOON))
    again = replace(sent(), started=NOON + timedelta(seconds=90))
    assert played.at(2, again) == [OPENED]
    assert played.at(9, replace(sent(), started=start)) == [REPEATED]
    assert played.at(15, again) == [OPENED], "sent again by its sender"


def test_each_of_both_alerts_tells_of_the_other() -> None:
    played = Played()
    played.at(0, sent())
    played.at(6, sent())
    first, second = played.made.alerts.values()
    assert (first.records[-1].outcome, first.records[-1].later_alert, first.records[-1].at) == (
        RESOLVED,
        second.id,
        at(6),
    )
    [begun] = second.records
    assert begun.earlier is not None
    assert (begun.earlier.alert_id, begun.earlier.incident_id, begun.earlier.heard) == (
        first.id,
        first.incident_id,
        at(0),
    )


@dataclass
class NaiveIncident:
    keys: list[str] = field(default_factory=list)
    """Of alerts that were not resolved."""
    joinable: bool = True


class Naive:
    """The contract as a beginner would write it, minute by minute."""

    def __init__(self) -> None:
        self.incidents: list[NaiveIncident] = []
        self.of_group: dict[str, NaiveIncident] = {}
        self.of_key: dict[str, tuple[NaiveIncident, datetime]] = {}

    def send(self, key: str, group: str, window: timedelta | None, action: Action, now: datetime) -> Outcome:
        fires_in, heard = self.of_key.get(key, (None, now))
        if action is Action.RESOLVE:
            if fires_in is None:
                return Outcome.IGNORED
            fires_in.keys.remove(key)
            del self.of_key[key]
            return RESOLVED
        if fires_in is not None and (window is None or now < heard + window):
            self.of_key[key] = fires_in, now
            return REPEATED
        if fires_in is not None:
            fires_in.joinable = False
        joined = self.of_group.get(group)
        if joined is not None and joined.keys and joined.joinable:
            joined.keys.append(key)
            self.of_key[key] = joined, now
            return JOINED
        opened = NaiveIncident([key])
        self.incidents.append(opened)
        self.of_group[group] = opened
        self.of_key[key] = opened, now
        return OPENED


SENT = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from("gh"),
    st.sampled_from([None, timedelta(minutes=2), FIVE, FIVE]),
    st.sampled_from([Action.TRIGGER] * 4 + [Action.RESOLVE]),
)
# Minutes after the batch before: the windows, what is a little less, and what sums of them make.
BATCHES = st.lists(
    st.tuples(st.sampled_from([0, 1, 1.999, 2, 3, 4.999, 5, 7]), st.lists(SENT, min_size=1, max_size=5)), max_size=8
)


@settings(max_examples=examples(300), deadline=None)
@given(BATCHES)
def test_any_sequence_does_what_the_contract_says(
    batches: Sequence[tuple[float, Sequence[tuple[str, str, timedelta | None, Action]]]],
) -> None:
    played, naive, minute = Played(), Naive(), 0.0
    for later, batch in batches:
        minute += later
        expected = [naive.send(*each, at(minute)) for each in batch]
        given_ones = [message(key, action, group=group, dedup=window) for key, group, window, action in batch]
        assert played.at(minute, *given_ones) == expected
        assert played.open() == [len(each.keys) for each in naive.incidents if each.keys]
        live = [each.key for each in played.made.alerts.values() if each.state is not AlertState.RESOLVED]
        assert len(live) == len(set(live)) == len(naive.of_key), "I2: one live alert per key"
        of_group = [each.group_key for each in played.made.incidents.values() if each.open]
        assert len(of_group) == len(set(of_group)), "I2: one open incident per key that is joined"


ZONES = st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")])


@settings(max_examples=examples(100), deadline=None)
@given(
    st.sampled_from([datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)]),
    st.timedeltas(timedelta(), timedelta(days=2)),
    st.timedeltas(timedelta(), timedelta(hours=3)),
    st.integers(1, 180),
    ZONES,
)
def test_clocks_that_are_put_forward_or_back_move_no_window(
    day: datetime, into: timedelta, later: timedelta, minutes: int, zone: tzinfo
) -> None:
    heard, window = day + into, timedelta(minutes=minutes)
    trigger = sent(dedup=window)
    alert = Alert(UUID(int=1), trigger.key, AlertState.FIRING, UUID(int=2), 1)
    found = ends(trigger, alert, heard.astimezone(zone), None, heard + later)
    assert (found is not None) == (later >= window)
