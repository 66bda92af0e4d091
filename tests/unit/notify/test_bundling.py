"""When a person's pages come together, without a server: budgets, storms, and that nothing is lost."""

import itertools
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin.type.v1.severity_pb2 import SEVERITY_ERROR, SEVERITY_INFO, SEVERITY_WARNING, Severity
from tocsin_notify.app.pages.placing import may_wait
from tocsin_notify.domain.bundling import BundlePolicy, Member, Pace, place
from tocsin_notify.domain.page import Channel, Kind, Page, Urgency
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.texts.bundles import line, summary
from tocsin_notify.texts.catalogue import words_of

START = datetime(2026, 3, 1, 3, 12, tzinfo=UTC)
POLICY = BundlePolicy(pages=3, window=300.0, collect=30.0, longest=300.0)

Going = list[tuple[datetime, uuid.UUID | None, Pace]]


def run(gaps: list[float], policy: BundlePolicy = POLICY, late: float = 0.0) -> Going:
    """Where each page goes that comes so many seconds after the one before it, and the pace after that.

    A bundle is sent when it is due, or so many seconds too `late`.
    """
    pace, now, going = Pace(), START, Going()
    for gap in gaps:
        now += timedelta(seconds=gap)
        if pace.bundle_due is not None and now >= pace.bundle_due + timedelta(seconds=late):
            pace = Pace(pace.alone, pace.storm_until, None, None, pace.bundles)
        placed = place(pace, now, policy, uuid.uuid4)
        pace = placed.pace
        going.append((now, placed.bundle, pace))
    return going


def test_the_page_above_the_budget_and_those_that_follow_come_together() -> None:
    going = run([0.0] * 3 + [1.0] * 20)
    assert [bundle for _, bundle, _ in going[:3]] == [None] * 3
    assert len({bundle for _, bundle, _ in going[3:]}) == 1
    assert None not in {bundle for _, bundle, _ in going[3:]}
    assert going[3][2].bundle_due == going[3][0] + timedelta(seconds=30)


def test_each_further_message_of_a_storm_waits_twice_as_long_up_to_the_most() -> None:
    going = run([0.0] * 3 + [1.0] * 1500)
    dues = list(dict.fromkeys(pace.bundle_due for _, bundle, pace in going if bundle))
    begins = {bundle: at for at, bundle, _ in reversed(going) if bundle}
    waits = [
        round((due - begin).total_seconds()) for due, begin in zip(dues, sorted(begins.values()), strict=True) if due
    ]
    assert waits[:5] == [30, 60, 120, 240, 300]
    assert set(waits[5:]) == {300}


def test_a_storm_is_over_when_nothing_came_for_a_whole_window() -> None:
    going = run([0.0] * 4 + [299.9] + [300.0])
    assert [bundle is None for _, bundle, _ in going] == [True] * 3 + [False] * 2 + [True]
    assert going[-1][2].bundles == 0


def test_a_page_counts_for_less_than_the_window() -> None:
    assert run([0.0, 0.0, 0.0, 299.9])[-1][1] is not None
    assert run([0.0, 0.0, 0.0, 300.0])[-1][1] is None


@pytest.mark.parametrize("gap", [0.0, 1.0, 1000.0])
def test_without_a_budget_nothing_is_bundled(gap: float) -> None:
    assert {bundle for _, bundle, _ in run([gap] * 100, BundlePolicy(pages=0))} == {None}


def test_each_storm_begins_with_the_shortest_time_to_collect() -> None:
    going = run(([0.0] * 3 + [1.0] * 200 + [1000.0]) * 2)
    waits = {
        bundle: (pace.bundle_due - at).total_seconds()
        for at, bundle, pace in reversed(going)
        if bundle and pace.bundle_due
    }
    assert sorted(round(wait) for wait in waits.values()) == [30, 30, 60, 60, 120, 120]


@given(st.lists(st.floats(0, 90), max_size=60), st.floats(0, 500))
def test_a_bundle_that_waits_to_be_sent_is_never_forgotten(gaps: list[float], late: float) -> None:
    """Also if its time to collect is longer than the window, or its sender is late."""
    policy = BundlePolicy(pages=2, window=60.0, collect=50.0, longest=200.0)
    before: Pace = Pace()
    sent = 0
    for at, bundle, pace in run(gaps, policy, late):
        due = before.bundle_due is not None and at >= before.bundle_due + timedelta(seconds=late)
        if before.bundle is not None and not due:
            assert bundle == pace.bundle == before.bundle
            assert pace.bundle_due == before.bundle_due
        sent += due
        before = pace
    assert sent <= len(gaps)


POLICIES = st.builds(
    BundlePolicy, pages=st.integers(1, 5), window=st.just(60.0), collect=st.floats(1, 30), longest=st.just(60.0)
)


@given(st.lists(st.floats(0, 90), max_size=80), POLICIES)
def test_no_window_holds_more_pages_by_themselves_than_the_budget_and_no_page_waits_long(
    gaps: list[float], policy: BundlePolicy
) -> None:
    going = run(gaps, policy)
    alone = [at for at, bundle, _ in going if bundle is None]
    for at in alone:
        lately = [other for other in alone if at - timedelta(seconds=policy.window) < other <= at]
        assert len(lately) <= policy.pages
    due: dict[uuid.UUID, datetime] = {}
    for at, bundle, pace in going:
        assert len(pace.alone) <= policy.pages
        if bundle is not None:
            assert pace.bundle == bundle
            assert pace.bundle_due is not None
            assert due.setdefault(bundle, pace.bundle_due) == pace.bundle_due, (
                "a bundle that fills does not wait for it"
            )
            assert timedelta(0) <= pace.bundle_due - at <= timedelta(seconds=max(policy.longest, policy.collect))


@given(st.lists(st.floats(0, 90), max_size=80), POLICIES)
def test_messages_of_a_storm_are_few(gaps: list[float], policy: BundlePolicy) -> None:
    """No two of them begin to collect within the time to collect."""
    going = run(gaps, policy)
    opened = list(dict.fromkeys(bundle for _, bundle, _ in going if bundle is not None))
    firsts = [next(at for at, bundle, _ in going if bundle == each) for each in opened]
    for before, after in itertools.pairwise(firsts):
        assert (after - before).total_seconds() >= min(policy.collect, policy.longest) - 0.001


def test_what_a_bundle_says() -> None:
    error = Member("Disk full", "error", START)
    warning = Member("Slow", "warning", START + timedelta(minutes=3))
    assert summary([error], words_of("en")) == "1 more page: Disk full"
    several = [warning, error, warning]
    assert summary(several, words_of("en")) == "3 more pages: 1 error, 2 warning, the oldest since 03:12 UTC"
    assert summary(several, words_of("de")) == "3 weitere Alarme: 1 Fehler, 2 Warnung, der älteste seit 03:12 UTC"
    assert line(error, words_of("de")) == "03:12 Fehler: Disk full"


def test_a_storm_of_any_length_goes_on() -> None:
    long = Pace((START,) * 3, START + timedelta(seconds=300), bundles=5000)
    placed = place(long, START, POLICY, uuid.uuid4)
    assert placed.pace.bundle_due == START + timedelta(seconds=300)


def test_what_is_not_counted_is_not_kept() -> None:
    assert run([1.0] * 50, BundlePolicy(pages=0))[-1][2] == Pace()


@pytest.mark.parametrize("kind", Kind)
def test_what_may_wait_for_others(kind: Kind) -> None:
    """A page to people of less than critical severity; and of those none that names its channel, or outlasts an acknowledge."""
    id = uuid.UUID(int=7)
    for severity, named in itertools.product(Severity.values(), ("its own way", "no end but the last", "nothing")):
        channel = Channel.SMS if named == "its own way" else None
        page = Page(kind, Urgency.HIGH, channel, outlasts=named == "no end but the last")
        given = NewPage(id, "acme", "users/ana", id, page, 0, 1, None, NotificationJob(severity=severity))
        expected = (
            kind in (Kind.NEW_INCIDENT, Kind.ESCALATION, Kind.URGENCY_RAISED)
            and severity in (SEVERITY_ERROR, SEVERITY_WARNING, SEVERITY_INFO)
            and named == "nothing"
        )
        assert may_wait(given) == expected, (severity, named)
        assert not may_wait(replace(given, incident=None)), (severity, named)
