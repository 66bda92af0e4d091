"""Dates for tests that move the database's clock to them: it only goes forward, so they must lie ahead on any day."""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

YEAR: Final = datetime.now(UTC).year + 1
"""All of it is ahead."""
SPRING: Final = datetime(YEAR, 3, 1, tzinfo=UTC)


def change_of_clocks(zone: str, month: int) -> datetime:
    """The full hour, in UTC, of the first change of the clocks in `YEAR` from this month on: the next month may begin with it."""
    hour, there = datetime(YEAR, month, 1, tzinfo=UTC), ZoneInfo(zone)
    while hour.astimezone(there).utcoffset() == (hour + timedelta(hours=1)).astimezone(there).utcoffset():
        hour += timedelta(hours=1)
        assert hour.month <= month + 1, f"no change in {zone}"
    return hour + timedelta(hours=1)
