"""Local times and instants, where clocks change and where they do not."""

from datetime import UTC, datetime
from random import Random

import pytest
from tocsin_escalation.domain.schedules.clock import UnknownZone, clock, local_of, minute_of, time_of, wall_of, zones

from tests.rounds import LONG
from tests.unit.escalation.schedules.oracle import land, wall


def at(zone: str, text: str, *, last: bool = False) -> str:
    return f"{time_of(clock(zone).instant(local_of(datetime.fromisoformat(text)), last=last)):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29 01:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03 15:30"),
        ("Pacific/Apia", "2011-12-30T13:00", "2011-12-30 10:00"),
        ("America/Sao_Paulo", "2018-11-04T00:00", "2018-11-04 03:00"),
        ("Africa/Casablanca", "2026-03-22T02:30", "2026-03-22 02:00"),
    ],
)
def test_a_time_that_the_clocks_skip_is_the_first_instant_after_it(zone: str, local: str, instant: str) -> None:
    assert at(zone, local) == at(zone, local, last=True) == instant
    assert clock(zone).candidates(local_of(datetime.fromisoformat(local))) == ()


@pytest.mark.parametrize(
    ("zone", "local", "first", "last"),
    [
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25 00:30", "2026-10-25 01:30"),
        ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04 14:45", "2026-04-04 15:15"),
        ("Africa/Casablanca", "2026-02-15T02:30", "2026-02-15 01:30", "2026-02-15 02:30"),
    ],
)
def test_of_a_time_that_the_clocks_show_twice_there_is_a_first_and_a_last(
    zone: str, local: str, first: str, last: str
) -> None:
    assert (at(zone, local), at(zone, local, last=True)) == (first, last)
    found = clock(zone).candidates(local_of(datetime.fromisoformat(local)))
    assert [f"{time_of(minute):%Y-%m-%d %H:%M}" for minute in found] == [first, last]


def test_zones_at_random_times_are_as_the_standard_library_has_them() -> None:
    random = Random(4)
    every = sorted(zones())
    # A table of a year is made for each zone and time: 5 ms each. `make test-long` takes every zone.
    for zone in every if LONG else random.sample(every, 40):
        for _ in range(4 if LONG else 2):
            minute = random.randint(
                minute_of(datetime(1990, 1, 1, tzinfo=UTC)), minute_of(datetime(2060, 1, 1, tzinfo=UTC))
            )
            assert wall_of(clock(zone).local(minute)) == wall(minute, zone), (zone, minute)
            local = clock(zone).local(minute)
            for last in (False, True):
                assert clock(zone).instant(local, last=last) == land(wall_of(local), zone, last), (zone, local)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "europe/berlin", "/etc/localtime"])
def test_what_is_no_zone(name: str) -> None:
    with pytest.raises(UnknownZone):
        clock(name)
