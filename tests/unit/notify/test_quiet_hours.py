"""Until when a page of low urgency waits: weekends, nights, and the nights on which clocks are changed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain import quiet_hours, wall_time
from tocsin_notify.domain.quiet_hours import DAY, QuietHours, QuietWindow

BERLIN = ZoneInfo("Europe/Berlin")
ALL_DAYS = frozenset(range(7))
NIGHTS = QuietHours("Europe/Berlin", (QuietWindow(ALL_DAYS, 22 * 60, 9 * 60),))
WEEKENDS = QuietHours(
    "Europe/Berlin",
    (
        QuietWindow(frozenset({4}), 18 * 60, 6 * 60),
        QuietWindow(frozenset({5, 6}), 0, DAY),
        QuietWindow(frozenset({0}), 0, 8 * 60),
    ),
)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("hours", "moment", "end"),
    [
        (NIGHTS, "2026-02-02T21:59:59", None),
        (NIGHTS, "2026-02-02T22:00", "2026-02-03T07:00"),
        (NIGHTS, "2026-02-03T06:59:59", "2026-02-03T07:00"),
        (NIGHTS, "2026-02-03T07:00", None),
        (WEEKENDS, "2026-02-06T18:30", "2026-02-09T08:00"),
        (WEEKENDS, "2026-02-08T03:00", "2026-02-09T08:00"),
        (WEEKENDS, "2026-02-09T08:00", None),
        (QuietHours(), "2026-02-02T23:00", None),
        (QuietHours("Mars/Olympus", NIGHTS.windows), "2026-02-02T23:00", None),
        # Clocks go from 02:00 to 03:00: the night is an hour shorter and ends at the same time of the day.
        (NIGHTS, "2026-03-28T23:00", "2026-03-29T07:00"),
        # And back from 03:00 to 02:00.
        (NIGHTS, "2026-10-24T23:00", "2026-10-25T07:00"),
    ],
)
def test_pages_wait_until_the_window_ends(hours: QuietHours, moment: str, end: str | None) -> None:
    assert hours.until(berlin(moment)) == (berlin(end) if end else None)


def test_a_window_that_ends_when_clocks_are_changed_ends_once() -> None:
    until_half_past_two = QuietHours("Europe/Berlin", (QuietWindow(ALL_DAYS, 60, 90),))
    assert until_half_past_two.until(berlin("2026-03-29T01:30")) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    first, shown_again = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    assert until_half_past_two.until(berlin("2026-10-25T01:30")) == first
    assert until_half_past_two.until(shown_again) is None, "02:30 was over before"


def test_hours_that_leave_no_time_of_the_week_are_found() -> None:
    always = QuietHours("UTC", (QuietWindow(ALL_DAYS, 0, DAY),))
    shifted = QuietHours("UTC", (QuietWindow(ALL_DAYS, 22 * 60, 12 * 60), QuietWindow(ALL_DAYS, 10 * 60, 12 * 60)))
    assert always.leave_nothing()
    assert shifted.leave_nothing()
    assert not NIGHTS.leave_nothing()
    assert not WEEKENDS.leave_nothing()
    assert not QuietHours().leave_nothing()
    almost = QuietHours("UTC", (QuietWindow(frozenset(range(6)), 0, DAY), QuietWindow(frozenset({6}), 1, DAY - 1)))
    assert not almost.leave_nothing()


def test_they_say_when_they_are() -> None:
    assert str(WEEKENDS) == "Fri 18:00 to 24:00; Sat, Sun 00:00 to 24:00; Mon 00:00 to 08:00 in Europe/Berlin"
    assert str(NIGHTS) == "Mon, Tue, Wed, Thu, Fri, Sat, Sun 22:00 to 07:00 in Europe/Berlin"


WINDOWS = st.builds(
    QuietWindow,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, DAY - 1),
    st.integers(1, DAY),
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"])


@given(
    st.lists(WINDOWS, max_size=5),
    ZONES,
    st.integers(0, 365 * DAY),
)
def test_the_end_is_later_out_of_every_window_and_each_moment_before_waits_for_it(
    windows: list[QuietWindow], zone: str, minute: int
) -> None:
    hours, moment = QuietHours(zone, tuple(windows)), datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    end = hours.until(moment)
    if end is None or hours.leave_nothing():
        return
    assert moment < end <= moment + timedelta(days=8)
    assert hours.until(end) is None
    assert hours.until(moment + (end - moment) / 2) == end


def test_hours_of_many_windows_cost_no_more_than_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for each step of each page, in front of the pages of all tenants."""
    windows = [QuietWindow(ALL_DAYS, number * 100, 100) for number in range(13)]
    hours = QuietHours("Europe/Berlin", (*windows, QuietWindow(frozenset(range(6)), 1300, 140)))
    asked, real = 0, wall_time.earliest_instant_of

    def counted(wall: datetime, zone: str) -> datetime:
        nonlocal asked
        asked += 1
        return real(wall, zone)

    monkeypatch.setattr(quiet_hours, "earliest_instant_of", counted)
    assert hours.until(berlin("2026-02-02T00:00")) == berlin("2026-02-08T21:40")
    assert asked <= 12
