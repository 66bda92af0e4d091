"""Local times as instants: those that clocks skip or show twice are refused, with both instants that could be meant."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.wall_time import BadTime, _zone, _zones, instant_of


def test_a_local_time_is_the_instant_at_which_the_clocks_show_it() -> None:
    assert instant_of("2026-07-01T09:00", "Europe/Berlin") == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert instant_of("2026-01-01T09:00:30", "Europe/Berlin") == datetime(2026, 1, 1, 8, 0, 30, tzinfo=UTC)
    assert instant_of("2026-07-01T09:00", "Asia/Kathmandu") == datetime(2026, 7, 1, 3, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wall", "zone", "why", "both"),
    [
        (
            "2026-03-29T02:30",
            "Europe/Berlin",
            "does not exist",
            "2026-03-29T01:30:00+01:00 or 2026-03-29T03:30:00+02:00",
        ),
        (
            "2026-10-25T02:30",
            "Europe/Berlin",
            "comes twice",
            "2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00",
        ),
        (
            "2026-10-04T02:15",
            "Australia/Lord_Howe",
            "does not exist",
            "2026-10-04T01:45:00+10:30 or 2026-10-04T02:45:00+11:00",
        ),
        # Samoa left out a whole day.
        (
            "2011-12-30T12:00",
            "Pacific/Apia",
            "does not exist",
            "2011-12-29T12:00:00-10:00 or 2011-12-31T12:00:00+14:00",
        ),
    ],
)
def test_a_time_that_is_not_one_instant_is_refused_with_both(wall: str, zone: str, why: str, both: str) -> None:
    with pytest.raises(BadTime) as caught:
        instant_of(wall, zone)
    assert caught.value.field == "date_time"
    assert str(caught.value) == f"{wall} {why} in {zone}; give an instant as send_time instead: {both}"


@pytest.mark.parametrize(
    ("wall", "zone", "field"),
    [
        ("2026-02-30T09:00", "Europe/Berlin", "date_time"),
        ("0001-01-01T00:00", "Asia/Tokyo", "date_time"),
        ("9999-12-31T23:59", "America/New_York", "date_time"),
        ("2026-07-01T09:00", "Europe/Atlantis", "time_zone"),
        ("2026-07-01T09:00", "../../etc/passwd", "time_zone"),
        ("2026-07-01T09:00", "", "time_zone"),
    ],
)
def test_what_is_no_time_or_no_zone_is_refused(wall: str, zone: str, field: str) -> None:
    with pytest.raises(BadTime) as caught:
        instant_of(wall, zone)
    assert caught.value.field == field


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2037, 1, 1)),  # noqa: DTZ001
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]),
)
def test_an_instant_is_found_if_and_only_if_the_wall_shows_the_time_once(wall: datetime, zone: str) -> None:
    wall = wall.replace(microsecond=0)
    try:
        found = [instant_of(wall.isoformat(), zone)]
    except BadTime as error:
        found = []
        both = str(error).rpartition("instead: ")[2].split(" or ")
        assert len({datetime.fromisoformat(each) for each in both}) == 2
    shown = {
        moment.astimezone(UTC)
        for fold in (0, 1)
        if (moment := wall.replace(tzinfo=_zone(zone), fold=fold))
        .astimezone(UTC)
        .astimezone(_zone(zone))
        .replace(tzinfo=None)
        == wall
    }
    assert found == (sorted(shown) if len(shown) == 1 else [])


def test_every_zone_can_be_read() -> None:
    assert "Europe/Berlin" in _zones()
    for zone in _zones():
        assert instant_of("2026-01-15T12:00", zone).year == 2026
