"""Groups with a window, without a database: which alerts join the incident that is open, and which open another one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.group_windows import Passed, is_over
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.silences import Matched
from tocsin_ingest.domain.thresholds import Threshold

from tests.rounds import examples
from tests.unit.ingest.model import message
from tests.unit.ingest.played import SILENCE, Played, at

FIVE = timedelta(minutes=5)
OPENED, JOINED, REPEATED = Outcome.OPENED, Outcome.GROUPED, Outcome.DEDUPLICATED


def sent(key: str, window: timedelta | None = FIVE, *, group: str = "g") -> Message:
    return message(key, group=group, window=window)


def over(key: str) -> Message:
    return message(key, Action.RESOLVE, window=FIVE)


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        (timedelta(), JOINED),
        (FIVE - timedelta(microseconds=1), JOINED),
        (FIVE, OPENED),
        (FIVE + timedelta(microseconds=1), OPENED),
        (-timedelta(hours=1), JOINED),
    ],
)
def test_the_end_of_the_window_is_no_more_in_it(later: timedelta, outcome: Outcome) -> None:
    played = Played()
    played.at(0, sent("a"))
    assert played.at(later / timedelta(minutes=1), sent("b")) == [outcome]


def test_each_alert_that_joins_lets_it_begin_anew_and_repeats_do_not() -> None:
    played = Played()
    assert played.at(0, sent("a")) == [OPENED]
    assert played.at(4, sent("b"), sent("a")) == [JOINED, REPEATED]
    assert played.at(8, sent("c")) == [JOINED], "four minutes after the last one"
    assert played.at(12, sent("a"), sent("b"), sent("c")) == [REPEATED] * 3
    assert played.at(13, sent("d")) == [OPENED]
    assert played.open() == [3, 1]


def test_repeats_and_resolves_stay_in_the_incident_of_their_alert() -> None:
    played = Played()
    played.at(0, sent("a"), sent("b"))
    assert played.at(6, sent("c"), sent("d")) == [OPENED, JOINED]
    assert played.at(7, sent("a"), over("a"), sent("a")) == [REPEATED, Outcome.RESOLVED, JOINED]
    assert played.open() == [1, 3], "its next firing joined the newer one"
    assert played.at(8, over("b")) == [Outcome.RESOLVED]
    assert played.open() == [3]


def test_an_older_incident_that_is_still_open_is_joined_no_more_when_the_newer_one_is_over() -> None:
    played = Played()
    played.at(0, sent("a"))
    played.at(6, sent("b"))
    assert played.at(7, over("b"), sent("c")) == [Outcome.RESOLVED, OPENED]
    assert played.open() == [1, 1]


def test_the_rule_of_the_alert_that_comes_decides() -> None:
    played = Played()
    played.at(0, sent("a"))
    assert played.at(6, sent("b", None)) == [JOINED], "without a window as long as it is open"
    assert played.at(12, sent("c", 2 * FIVE)) == [JOINED]
    assert played.at(17, sent("d")) == [OPENED]


def test_groups_have_windows_of_their_own() -> None:
    played = Played()
    played.at(0, sent("a"))
    assert played.at(4, sent("b", group="h")) == [OPENED]
    assert played.at(6, sent("c"), sent("d", group="h")) == [OPENED, JOINED]


def test_what_waits_joins_what_is_opened_meanwhile_and_tells_what_it_came_too_late_for() -> None:
    played = Played()
    played.at(0, sent("a"))
    [first] = played.made.incidents
    paused = replace(sent("b"), pause=timedelta(minutes=2))
    below = replace(sent("c"), threshold=Threshold(2, timedelta(minutes=10)))
    assert played.at(6, paused, paused, below) == [Outcome.PAUSED, Outcome.PAUSED, Outcome.BELOW_THRESHOLD]
    assert played.at(7, replace(below, dedup_key="d", key=sent("d").key)) == [OPENED]
    told = [each.records[-1].passed for each in played.made.alerts.values()]
    assert told == [None, *[Passed(first, at(0))] * 3]
    assert played.at(8, replace(paused, seen=2)) == [JOINED]
    assert played.open() == [1, 2]


def test_what_a_silence_lets_go_after_the_window_opens_another_incident() -> None:
    played = Played()
    assert played.at(19, sent("a")) == [OPENED]
    silenced = replace(sent("b"), silences=(Matched(SILENCE, 1),))
    assert played.at(20, silenced) == [Outcome.SILENCED]
    assert played.at(23, sent("c")) == [JOINED]
    assert played.at(30, replace(silenced, seen=1)) == [OPENED]


@dataclass
class NaiveIncident:
    joined: datetime
    keys: set[str] = field(default_factory=set)


class Naive:
    """The contract as a beginner would write it: the newest incident of each group is the one that may be joined."""

    def __init__(self) -> None:
        self.newest: dict[str, NaiveIncident] = {}
        self.of_key: dict[str, NaiveIncident] = {}

    def send(self, key: str, group: str, window: timedelta | None, action: Action, now: datetime) -> Outcome:
        fires_in = self.of_key.get(key)
        if action is Action.RESOLVE:
            if fires_in is None:
                return Outcome.IGNORED
            fires_in.keys.remove(key)
            del self.of_key[key]
            return Outcome.RESOLVED
        if fires_in is not None:
            return REPEATED
        newest = self.newest.get(group)
        joins = newest is not None and bool(newest.keys) and (window is None or now < newest.joined + window)
        if newest is None or not joins:
            newest = self.newest[group] = NaiveIncident(now)
        newest.joined = now
        newest.keys.add(key)
        self.of_key[key] = newest
        return JOINED if joins else OPENED


SENT = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from("gh"),
    st.sampled_from([None, timedelta(minutes=2), FIVE]),
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
        given_ones = [message(key, action, group=group, window=window) for key, group, window, action in batch]
        assert played.at(minute, *given_ones) == expected
        open_ones = {id(each): each for each in naive.of_key.values()}
        assert sorted(played.open()) == sorted(len(each.keys) for each in open_ones.values())
        of_group = [each.group_key for each in played.made.incidents.values() if each.open]
        assert len(of_group) == len(set(of_group)), "I2: one open incident per key"


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
    joined, window = day + into, timedelta(minutes=minutes)
    assert is_over(window, joined.astimezone(zone), joined + later) == (later >= window)
