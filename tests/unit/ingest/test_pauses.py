"""Pauses of transient alerts without a database: what opens an incident, and when."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_ingest.domain.decision import AlertState, Outcome
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.silences import Matched, Window
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_kit.ids import new_id

from tests.rounds import examples
from tests.unit.ingest.model import message
from tests.unit.ingest.strategies import Step, steps

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SILENCE = UUID(int=1)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


class Played:
    """A snapshot whose clock moves. Silence from minute 10 to 20 for messages that are `quiet`."""

    def __init__(self) -> None:
        self.made = Snapshot(new_id)

    def at(self, minute: int, *sent: Message) -> list[Outcome]:
        self.made.put_windows({SILENCE: Window(1, at(10), at(20))}, at(minute))
        return [each.outcome for each in self.made.apply(sent)]


def paused(key: str = "a", *, minutes: int = 5, group: str = "") -> Message:
    return message(key, group=group, pause=timedelta(minutes=minutes))


def resolved(key: str = "a") -> Message:
    return message(key, Action.RESOLVE)


def look(sent: Message, count: int) -> Message:
    return replace(sent, seen=count)


def quiet(sent: Message) -> Message:
    return replace(sent, silences=(Matched(SILENCE, 1),))


def test_it_opens_only_what_still_fires_when_the_pause_is_over() -> None:
    played = Played()
    assert played.at(0, paused("a"), paused("b")) == [Outcome.PAUSED, Outcome.PAUSED]
    assert played.at(2, paused("a"), resolved("b")) == [Outcome.PAUSED, Outcome.RESOLVED]
    assert played.at(5, look(paused("a"), 2), look(paused("b"), 1)) == [Outcome.OPENED, Outcome.IGNORED]
    [incident] = played.made.incidents.values()
    [alert] = [each for each in played.made.alerts.values() if each.state is AlertState.FIRING]
    assert (alert.count, alert.pause, incident.alert_count) == (2, None, 1), "a look is no message"


def test_repeats_do_not_put_it_off_and_one_that_comes_at_its_end_opens() -> None:
    played = Played()
    found = [played.at(minute, paused())[0] for minute in (0, 4, 5)]
    assert found == [Outcome.PAUSED, Outcome.PAUSED, Outcome.OPENED]


def test_it_counts_from_the_first_trigger_of_each_firing() -> None:
    played = Played()
    assert played.at(0, paused()) == [Outcome.PAUSED]
    assert played.at(4, resolved(), paused()) == [Outcome.RESOLVED, Outcome.PAUSED]
    assert played.at(6, paused()) == [Outcome.PAUSED]
    assert played.at(9, paused()) == [Outcome.OPENED]


def test_a_group_with_an_open_incident_is_joined_at_once() -> None:
    played = Played()
    assert played.at(0, paused("a", group="g"), message("b", group="g")) == [Outcome.PAUSED, Outcome.OPENED]
    assert played.at(1, paused("c", group="g"), paused("a", group="g")) == [Outcome.GROUPED, Outcome.GROUPED]


def test_repeats_in_one_batch_join_the_incident_that_opens_between_them() -> None:
    made, waits = Snapshot(new_id), paused("a", group="g")
    made.put_windows({}, at(0))
    sent = [waits, waits, waits, message("b", group="g"), waits, waits]
    assert [decision.outcome for decision, _ in made.apply_with_repeats(sent)] == [
        *[Outcome.PAUSED] * 3,
        *(Outcome.OPENED, Outcome.GROUPED, Outcome.DEDUPLICATED),
    ]
    assert sorted(alert.count for alert in made.alerts.values()) == [1, 5]


def test_a_changed_rule_holds_for_the_next_trigger() -> None:
    """A pause that has begun keeps its end; without one in the rule any more it is over; a rule that suppresses ends it."""
    played = Played()
    played.at(0, paused("a"), paused("b"), paused("c"))
    assert played.at(2, paused("a", minutes=1), message("b"), message("c", suppress=True)) == [
        *(Outcome.PAUSED, Outcome.OPENED, Outcome.SUPPRESSED)
    ]
    assert played.at(5, paused("a", minutes=1)) == [Outcome.OPENED]


def test_a_pause_goes_on_in_a_silence_and_both_must_be_over() -> None:
    played = Played()
    assert played.at(9, quiet(paused("a")), quiet(paused("b", minutes=30))) == [Outcome.PAUSED, Outcome.PAUSED]
    # Held back, and paused beside it, whichever came first.
    assert played.at(12, quiet(paused("a")), quiet(paused("c"))) == [Outcome.SILENCED, Outcome.SILENCED]
    assert played.at(14, look(quiet(paused("a")), 2)) == [Outcome.SILENCED], "its pause is over, the silence is not"
    assert played.at(19, quiet(paused("d"))) == [Outcome.SILENCED]
    assert played.at(20, *(look(quiet(paused(key)), count) for key, count in (("a", 2), ("c", 1), ("d", 1)))) == [
        *(Outcome.OPENED, Outcome.OPENED, Outcome.PAUSED)
    ]
    assert played.at(24, look(paused("d"), 1)) == [Outcome.OPENED]
    assert played.at(39, look(quiet(paused("b", minutes=30)), 1)) == [Outcome.OPENED]


def test_what_is_written_is_what_changed() -> None:
    played = Played()
    played.at(0, paused("a"), paused("b"), paused("c", minutes=9))
    by_key = {alert.key: alert for alert in played.made.alerts.values()}
    stored = Snapshot(new_id)
    for alert in by_key.values():
        stored.put_alert(replace(alert, pause=None, newest=None))
    assert sorted(stored.suppressed(by_key)) == sorted(each.id for each in by_key.values())
    stored.put_waiting({alert.id: alert.pause for alert in by_key.values() if alert.pause is not None}, {})
    stored.put_windows({}, at(5))
    stored.apply([paused("a"), resolved("b"), paused("c", minutes=9)])
    assert stored.changed_pauses() == {by_key[paused(key).key].id: None for key in "ab"}


spans = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(1, 12)), max_size=3)


@settings(max_examples=examples(300), deadline=None)
@given(steps, spans, st.integers(1, 9), st.booleans())
def test_an_incident_opens_at_the_first_minute_that_neither_a_silence_nor_a_pause_covers(
    taken: Sequence[Step], silenced: Sequence[tuple[str, int, int]], lasts: int, grouped: bool
) -> None:
    """Every minute: the messages of the minute, then a look at what is due, as the rows say. Then what fires is what a beginner
    would say: neither silenced nor paused, or together with one that fires already."""
    windows = {UUID(int=n): Window(1, at(start), at(start + long)) for n, (_, start, long) in enumerate(silenced)}
    made, live, fires = Snapshot(new_id), dict[str, tuple[int, int]](), set[str]()

    def sent(key: str, action: Action = Action.TRIGGER) -> Message:
        matched = tuple(Matched(UUID(int=n), 1) for n, (of, _, _) in enumerate(silenced) if of == key)
        given = paused(key, minutes=lasts, group="g" if grouped else "")
        return replace(given, action=action, silences=matched if action is Action.TRIGGER else ())

    def decided(key: str, minute: int) -> None:
        """At a message or a look."""
        covered = any(of == key and start <= minute < start + long for of, start, long in silenced)
        over = minute >= live[key][1] + lasts
        if not covered and (over or (grouped and fires)):
            fires.add(key)

    for minute in range(45):
        made.put_windows(windows, at(minute))
        for step in (each for each in taken if each.minute == minute):
            made.apply([sent(step.key, step.action)])
            if step.action is Action.RESOLVE:
                live.pop(step.key, None)
                fires.discard(step.key)
            else:
                count, first = live.get(step.key, (0, minute))
                live[step.key] = (count + 1, first)
                decided(step.key, minute)
        for key in sorted(live):
            alert = next(
                each
                for each in made.alerts.values()
                if each.key == sent(key).key and each.state is not AlertState.RESOLVED
            )
            ends = [alert.hold.until if alert.hold else None, alert.pause.until if alert.pause else None]
            if any(end is not None and end <= at(minute) for end in ends):
                made.apply([replace(sent(key), seen=live[key][0])])
                decided(key, minute)
        alerts = {each.key: each for each in made.alerts.values() if each.state is not AlertState.RESOLVED}
        assert len(alerts) == len(live)
        for key, (count, _) in live.items():
            alert = alerts[sent(key).key]
            assert alert.count == count
            assert (alert.state is AlertState.FIRING) == (key in fires), (minute, key)
    assert set(live) == fires, "every silence and every pause is over by now"
