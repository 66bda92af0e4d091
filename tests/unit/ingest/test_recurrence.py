"""Windows that come again, compared with a look at the clock on the wall, in zones whose clocks change."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_ingest.domain.recurrence import Recurrence
from tocsin_ingest.domain.zones import UnknownZone, zone

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def weekly(name: str, start: str, end: str, days: frozenset[int] = frozenset()) -> Recurrence:
    return Recurrence(zone(name), days, utc(start), utc(end), utc(start) + 300 * DAY)


@st.composite
def recurrences(draw: st.DrawFn) -> Recurrence:
    start = utc("2026-01-01T00:00") + draw(st.integers(0, 365 * 1440)) * MINUTE
    length = draw(st.sampled_from((1, 30, 90, 240, 1440, 3000, 7 * 1440))) * MINUTE
    days = draw(st.frozensets(st.integers(1, 7), max_size=3))
    until = start + draw(st.integers(1, 60 * 1440)) * MINUTE
    return Recurrence(zone(draw(st.sampled_from(ZONES))), days, start, start + length, until)


@given(recurrences(), st.integers(-3 * 1440, 63 * 1440))
def test_a_window_is_in_force_when_the_clock_on_the_wall_says_so(again: Recurrence, later: int) -> None:
    now = again.start + later * MINUTE
    found, local = again.at(now), now.astimezone(again.zone)
    if found is not None:
        assert found[0] <= now < found[1] <= again.until
    if local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
        return  # the wall shows this time twice, or the look at it would not be unique
    wall = local.replace(tzinfo=None)
    start, end = (each.astimezone(again.zone).replace(tzinfo=None) for each in (again.start, again.end))
    begun = (start + number * DAY for number in range(67))
    covered = any(
        begins <= wall < begins + (end - start) and (not again.days or begins.isoweekday() in again.days)
        for begins in begun
    )
    assert (found is not None) == (covered and again.start <= now < again.until)


@given(recurrences(), st.integers(-3 * 1440, 63 * 1440))
def test_the_following_window_begins_later_and_none_begins_between(again: Recurrence, later: int) -> None:
    now = again.start + later * MINUTE
    found = again.following(now)
    if found is None:
        return
    begins, ends = found
    assert now < begins < ends <= again.until
    inside = again.at(begins)
    assert inside is not None
    assert inside[1] >= ends
    before = again.at(begins - MINUTE)
    current = again.at(now)
    assert before is None or before[0] <= now or (current is not None and before[1] <= current[1])


def test_the_hour_that_is_skipped_shortens_a_window_and_a_window_within_it_is_none() -> None:
    """In Berlin 02:00 to 03:00 does not exist on 29 March 2026."""
    nights = weekly("Europe/Berlin", "2026-03-25T00:30", "2026-03-25T02:30")  # 01:30 to 03:30 on the wall
    assert nights.at(utc("2026-03-29T00:30")) == (utc("2026-03-29T00:30"), utc("2026-03-29T01:30"))
    within = weekly("Europe/Berlin", "2026-03-25T01:15", "2026-03-25T01:45")
    assert within.following(utc("2026-03-28T12:00")) == (utc("2026-03-30T00:15"), utc("2026-03-30T00:45"))
    until = weekly("Europe/Berlin", "2026-03-25T00:30", "2026-03-25T01:30")  # until 02:30, which is skipped
    assert until.at(utc("2026-03-29T00:59")) == (utc("2026-03-29T00:30"), utc("2026-03-29T01:00"))


def test_of_an_hour_that_comes_twice_the_first_is_meant() -> None:
    """In Berlin 02:00 to 03:00 comes twice on 25 October 2026."""
    nights = weekly("Europe/Berlin", "2026-10-20T00:15", "2026-10-20T00:45")  # 02:15 to 02:45
    assert nights.at(utc("2026-10-25T00:20")) == (utc("2026-10-25T00:15"), utc("2026-10-25T00:45"))
    assert nights.at(utc("2026-10-25T01:20")) is None


def test_only_its_days_and_not_before_its_start() -> None:
    sundays = weekly("Europe/Berlin", "2026-06-01T10:00", "2026-06-01T11:00", frozenset((7,)))  # a Monday
    assert sundays.at(utc("2026-06-01T10:30")) is None
    assert sundays.following(utc("2026-06-01T10:30")) == (utc("2026-06-07T10:00"), utc("2026-06-07T11:00"))
    assert sundays.at(utc("2026-05-31T10:30")) is None


@pytest.mark.parametrize("name", ["", "Nowhere", "europe/berlin", "/etc/passwd", "../UTC"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(UnknownZone):
        zone(name)
