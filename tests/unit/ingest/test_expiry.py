"""Ends that senders name with their triggers, by Alertmanager's rules."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_ingest.domain.decision import AlertState, Outcome
from tocsin_ingest.domain.expiry import Ending, Expiry
from tocsin_ingest.domain.fingerprint import prometheus_fingerprint
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.snapshot import Snapshot

from tests.unit.ingest.model import message

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMED = st.integers(1, 10_000).map(lambda seconds: Expiry(at=NOW + timedelta(seconds=seconds)))
WAITED = st.integers(1, 10_000).map(lambda seconds: Expiry(after=timedelta(seconds=seconds)))


def counting() -> Callable[[], UUID]:
    numbers = itertools.count(1)
    return lambda: UUID(int=next(numbers))


def snapshot() -> Snapshot:
    made = Snapshot(counting())
    made.put_windows({}, NOW)
    return made


def trigger(expiry: Expiry, **fields: object) -> Message:
    return replace(message("a"), expiry=expiry, **fields)  # type: ignore[arg-type]


@given(st.lists(NAMED | WAITED, min_size=1, max_size=6))
def test_the_end_is_what_alertmanager_makes_of_the_same_triggers(expiries: list[Expiry]) -> None:
    made = snapshot()
    made.apply_with_repeats([trigger(each) for each in expiries])
    # As types.Alert.Merge: the newer one holds, but for a later end of the older one that is no timeout.
    at, named = None, False
    for each in expiries:
        newer = each.at or NOW + (each.after or timedelta())
        if at is None or not (named and at > newer):
            at, named = newer, each.at is not None
    assert [(each.at, each.named) for each in made.endings.values()] == [(at, named)]


@given(NAMED | WAITED)
def test_an_ending_tells_how_long_after_its_trigger_it_is(expiry: Expiry) -> None:
    ending = expiry.ending(NOW)
    assert ending.at - ending.lasts == NOW


@pytest.mark.parametrize("seconds", [0, 1, 3600])
def test_a_trigger_whose_end_is_not_after_now_resolves(seconds: float) -> None:
    made = snapshot()
    fires, over = trigger(Expiry(at=NOW + timedelta(minutes=4))), trigger(Expiry(at=NOW - timedelta(seconds=seconds)))
    outcomes = [decision.outcome for decision, _ in made.apply_with_repeats([fires, over, over])]
    assert outcomes == [Outcome.OPENED, Outcome.RESOLVED, Outcome.IGNORED]
    assert [alert.state for alert in made.alerts.values()] == [AlertState.RESOLVED]
    assert made.endings == {}


def test_an_end_of_an_earlier_firing_does_not_resolve_the_next_one() -> None:
    made = snapshot()
    second = trigger(Expiry(at=NOW + timedelta(minutes=4)), started=NOW - timedelta(seconds=5))
    late = trigger(Expiry(at=NOW - timedelta(seconds=30)), started=NOW - timedelta(minutes=9))
    assert [decision.outcome for decision, _ in made.apply_with_repeats([second, late])] == [
        Outcome.OPENED,
        Outcome.IGNORED,
    ]
    assert len(made.endings) == 1


def test_a_resolve_and_an_acknowledge_give_no_end() -> None:
    made = snapshot()
    made.apply_with_repeats([message("a"), message("a", Action.ACKNOWLEDGE), message("a", Action.RESOLVE)])
    assert made.endings == {}


def test_the_later_of_two_named_ends_holds_in_either_order() -> None:
    early, late = (Ending(NOW + timedelta(minutes=n), timedelta(minutes=n), named=True) for n in (1, 2))
    assert early.then(late) == late.then(early) == late


@pytest.mark.parametrize(
    ("labels", "fingerprint"),
    [
        ({}, 14695981039346656037),
        ({"name": "garland, briggs", "fear": "love is not enough"}, 5799056148416392346),
    ],
)
def test_the_fingerprint_is_that_of_prometheus(labels: dict[str, str], fingerprint: int) -> None:
    """The values are those of its own tests (prometheus/common, model/signature_test.go)."""
    assert int(prometheus_fingerprint(labels), 16) == fingerprint
