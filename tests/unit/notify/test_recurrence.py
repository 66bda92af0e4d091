"""Recurrence rules: which days, at which instants, and what is refused; python-dateutil is the oracle for days."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from typing import Any

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin_notify.domain import recurrence
from tocsin_notify.domain.recurrence import DAYS, BadRule, Recurrence, read_rule
from tocsin_notify.domain.wall_time import BadTime

BERLIN = "Europe/Berlin"


def wall(text: str) -> datetime:
    """A local time."""
    return datetime.fromisoformat(text)


def occurrences(text: str, start: datetime, most: int, time_zone: str = "UTC") -> list[datetime]:
    made = Recurrence(read_rule(text), start, time_zone)
    found: list[datetime] = []
    moment: datetime | None = start.replace(tzinfo=UTC) - timedelta(days=2)
    while moment is not None and len(found) < most:
        moment = made.next_after(moment)
        found += [] if moment is None else [moment]
    return found


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=3, unique=True).map(",".join)


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Rules that some day fits soon, so that the oracle ends."""
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.integers(1, 3))}"]
    plain = listed(st.sampled_from(DAYS))
    # Not both at once: of `MO,1TU` the oracle takes the days that are both, and RFC 5545 those that are either.
    ordinal = listed(st.tuples(st.sampled_from(["1", "2", "-1"]), st.sampled_from(DAYS)).map("".join))
    shapes = {"": st.just(""), "BYDAY": plain if frequency in ("DAILY", "WEEKLY") else plain | ordinal}
    if frequency != "WEEKLY":
        shapes["BYMONTHDAY"] = listed(st.sampled_from(["1", "15", "28", "-1", "-28"]))
    key = draw(st.sampled_from(sorted(shapes)))
    value = draw(shapes[key])
    if key:
        parts.append(f"{key}={value}")
        if frequency in ("MONTHLY", "YEARLY") and draw(st.booleans()):
            parts.append(f"BYSETPOS={draw(st.sampled_from(['1', '-1']))}")
    if frequency in ("MONTHLY", "YEARLY") and draw(st.booleans()) and "INTERVAL=1" in parts:
        parts.append(f"BYMONTH={draw(listed(st.sampled_from(['1', '6', '12'])))}")
    if frequency == "WEEKLY":
        parts.append(f"WKST={draw(st.sampled_from(DAYS))}")
    if draw(st.booleans()):
        parts.append(f"COUNT={draw(st.integers(1, 6))}")
    return ";".join(parts)


@settings(max_examples=40, deadline=None)
@given(rules(), st.datetimes(wall("2024-01-01T00:00"), wall("2030-12-28T00:00")))
def test_the_days_are_those_of_the_oracle(text: str, start: datetime) -> None:
    start = start.replace(day=min(start.day, 28), microsecond=0)  # so that the oracle ends
    horizon = start + timedelta(days=3650)
    wanted: list[datetime] = []
    for each in takewhile(lambda each: each < horizon, rrulestr(text, dtstart=start)):
        wanted.append(each.replace(tzinfo=UTC))
        if len(wanted) == 8:
            break
    assert occurrences(text, start, 8)[: len(wanted)] == wanted


def test_days_with_and_without_an_ordinal_are_taken_together() -> None:
    found = occurrences("FREQ=MONTHLY;BYDAY=MO,1TU", wall("2027-03-01T09:00"), 7)
    assert [each.day for each in found] == [1, 2, 8, 15, 22, 29, 5]


@pytest.mark.parametrize(
    ("start", "days"),
    [
        # 02:30 does not exist on 28 March 2027: the offset before the gap makes it 03:30 by the new clock.
        (wall("2027-03-27T02:30"), ["2027-03-27T01:30", "2027-03-28T01:30", "2027-03-29T00:30"]),
        # 02:30 comes twice on 31 October 2027: the first one counts, once.
        (wall("2027-10-30T02:30"), ["2027-10-30T00:30", "2027-10-31T00:30", "2027-11-01T01:30"]),
        (wall("2027-03-27T09:00"), ["2027-03-27T08:00", "2027-03-28T07:00", "2027-03-29T07:00"]),
    ],
)
def test_the_time_of_day_stays_what_clocks_show(start: datetime, days: list[str]) -> None:
    wanted = [datetime.fromisoformat(f"{day}+00:00") for day in days]
    assert occurrences("FREQ=DAILY", start, 3, BERLIN) == wanted


def test_a_day_that_a_zone_left_out_makes_no_second_occurrence() -> None:
    """Samoa had no 30 December 2011."""
    found = occurrences("FREQ=DAILY", wall("2011-12-28T09:00"), 4, "Pacific/Apia")
    assert found == sorted(set(found))
    assert [(later - earlier).days for earlier, later in pairwise(found)] == [1, 1, 1]


def test_a_rule_ends_with_its_last_instant() -> None:
    until = "FREQ=DAILY;UNTIL=20270329T070000Z"
    assert len(occurrences(until, wall("2027-03-27T09:00"), 9, BERLIN)) == 3
    assert len(occurrences("FREQ=DAILY;COUNT=2", wall("2027-03-27T09:00"), 9, BERLIN)) == 2


NEVER = ["FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;INTERVAL=7;BYDAY=TU"]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many days and months of rules were looked at."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            nonlocal count
            count += 1
            return real(*given)

        return call

    for name in ("days", "_is_weekday"):
        monkeypatch.setattr(recurrence._Chosen, name, counted(getattr(recurrence._Chosen, name)))
    return lambda: count


@pytest.mark.parametrize("text", [*NEVER, "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=300"])
def test_a_rule_that_no_day_fits_is_known_to_have_ended_soon(text: str, looked: Callable[[], int]) -> None:
    """The search ends after ten years' days, and not in the year 9999, where days run out."""
    assert occurrences(text, wall("2027-03-01T09:00"), 1) == []
    assert looked() < 8000


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=YEARLY;COUNT=1000;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=WEEKLY;COUNT=1000;BYMONTH=2;BYDAY=MO",
        "FREQ=MONTHLY;COUNT=1000;BYDAY=5MO,-5SU;BYMONTH=1;BYSETPOS=-1",
    ],
)
def test_a_rule_of_rare_days_is_counted_without_a_look_at_the_others(text: str, looked: Callable[[], int]) -> None:
    made = Recurrence(read_rule(text), wall("2000-01-01T09:00"), BERLIN)
    assert made.next_after(datetime(2026, 11, 29, tzinfo=UTC)) is not None
    assert looked() < 3000


def test_what_was_missed_is_found_in_one_walk(looked: Callable[[], int]) -> None:
    made = Recurrence(read_rule("FREQ=DAILY;COUNT=1000"), wall("2027-01-01T09:00"), "UTC")
    latest, following = made.around(datetime(2027, 1, 1, 9, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC))
    assert (latest, following) == (datetime(2028, 12, 31, 9, tzinfo=UTC), datetime(2029, 1, 1, 9, tzinfo=UTC))
    assert looked() < 2000


def test_a_leap_day_is_found_eight_years_ahead() -> None:
    found = occurrences("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", wall("2096-03-01T00:00"), 1)
    assert found == [wall("2104-02-29T00:00").replace(tzinfo=UTC)]


@pytest.mark.parametrize(
    ("text", "start", "following"),
    [
        ("FREQ=YEARLY;INTERVAL=3", "2024-02-29T00:00", "2036-02-29"),
        ("FREQ=YEARLY;INTERVAL=7", "2076-02-29T00:00", "2104-02-29"),
        ("FREQ=YEARLY;INTERVAL=50", "2030-05-01T00:00", "2080-05-01"),
        ("FREQ=MONTHLY;INTERVAL=11;BYMONTH=2;BYMONTHDAY=29", "2027-03-01T00:00", "2032-02-29"),
        ("FREQ=WEEKLY;INTERVAL=366", "2027-03-01T00:00", "2034-03-06"),
        ("FREQ=DAILY;INTERVAL=366;BYMONTH=1", "2027-01-31T00:00", "2028-02-01"),
    ],
)
def test_rare_days_are_found_however_far_ahead(text: str, start: str, following: str) -> None:
    """As python-dateutil has them, which walks for as long as it takes."""
    begun = wall(start)
    oracle = [each for each in islice(rrulestr(text, dtstart=begun), 2) if each > begun]
    found = [each for each in occurrences(text, begun, 2) if each > begun.replace(tzinfo=UTC)]
    assert found[0].replace(tzinfo=None) == oracle[0]
    if "DAILY" not in text and "MONTHLY" not in text:
        assert str(found[0].date()) == following


@pytest.mark.parametrize(
    "text",
    [
        "",
        "WEEKLY",
        "FREQ=",
        "FREQ=HOURLY",
        "freq=daily",
        "INTERVAL=2",
        "FREQ=DAILY;FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=367",
        "FREQ=DAILY;INTERVAL=²",
        "FREQ=DAILY;COUNT=1001",
        "FREQ=DAILY;COUNT=-1",
        "FREQ=DAILY;COUNT=2;UNTIL=20270101T000000Z",
        "FREQ=DAILY;UNTIL=20270101",
        "FREQ=DAILY;UNTIL=20270231T000000Z",
        "FREQ=DAILY;BYHOUR=9",
        "FREQ=DAILY;BYEASTER=0",
        "FREQ=DAILY;BYDAY=1MO",
        "FREQ=WEEKLY;BYMONTHDAY=1",
        "FREQ=MONTHLY;BYDAY=54MO",
        "FREQ=MONTHLY;BYDAY=XX",
        "FREQ=MONTHLY;BYMONTHDAY=0",
        "FREQ=MONTHLY;BYMONTHDAY=32",
        "FREQ=MONTHLY;BYMONTH=-1",
        "FREQ=MONTHLY;BYMONTH=13",
        "FREQ=MONTHLY;BYSETPOS=1",
        "FREQ=DAILY;WKST=XX",
        "FREQ=DAILY;",
        "FREQ=DAILY\nDTSTART:20270101T000000Z",
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(BadRule, match="must"):
        read_rule(text)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(BadTime):
        Recurrence(read_rule("FREQ=DAILY"), wall("2027-01-01T00:00"), "Mars/Olympus").next_after(datetime.now(UTC))
