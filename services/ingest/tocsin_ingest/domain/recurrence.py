"""When a recurring silence is in force: windows in local time of a place.

A window begins on each day of a list (of every day without one) at the same local time, and ends at the same local time. A
skipped local time is the first instant after the gap; of one that occurs twice the first is used. So a window may be shorter than
usual, but never longer because of it, as a silence keeps users from being paged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

LONGEST: Final = timedelta(days=7)
"""Of one window, on the wall."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """`start` and `end` are those of the first window, in UTC; none begins or goes on at `until`.

    `days`: of the week, Monday is 1; none: every day.
    """

    zone: tzinfo
    days: frozenset[int]
    start: datetime
    end: datetime
    until: datetime

    def at(self, now: datetime) -> tuple[datetime, datetime] | None:
        """The window in force; of several the one that ends last. None: there is none."""
        today = now.astimezone(self.zone).date()
        # The clocks may change within a window, which may then last longer than its local times say.
        earliest = today - (self.end - self.start) - 2 * _DAY
        found = [window for window in self._windows(earliest, today) if window[0] <= now < window[1]]
        return max(found, key=lambda window: window[1], default=None)

    def following(self, now: datetime) -> tuple[datetime, datetime] | None:
        """The first window that begins later than `now`. None: there is none."""
        today = now.astimezone(self.zone).date()
        first = max(today, self.start.astimezone(self.zone).date())
        # A window that the clocks skip completely does not exist, so a week may pass without one.
        return next((each for each in self._windows(first - _DAY, first + 3 * LONGEST) if each[0] > now), None)

    def _windows(self, first: date, last: date) -> Iterator[tuple[datetime, datetime]]:
        """Those that begin on these days, in their order."""
        start, end = (each.astimezone(self.zone).replace(tzinfo=None) for each in (self.start, self.end))
        day = max(first, start.date())
        while day <= last:
            if not self.days or day.isoweekday() in self.days:
                moved = day - start.date()
                begins = max(instant(start + moved, self.zone), self.start)
                ends = min(instant(end + moved, self.zone), self.until)
                if begins < ends:
                    yield begins, ends
            day += _DAY


def instant(wall: datetime, zone: tzinfo) -> datetime:
    """The first instant, in UTC, at which the local time is this or later."""
    early, late = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early <= late:
        return early
    # The clocks skip it: the change lies between the two.
    low, high = late, early
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)
