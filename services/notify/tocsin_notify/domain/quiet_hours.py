"""Quiet hours: times of the week at which pages of low urgency wait. High urgency never does.

They are local times. A window is from the instant at which the clocks show its start to the instant at which they show its end: the
first one if they show it twice; what they skip is as much later as they skip. Windows that touch or overlap are one.
"""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

from tocsin_notify.domain.wall_time import BadTime, as_wall_time, earliest_instant_of

DAY: Final = 1440
WEEK: Final = 7 * DAY
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MOST_STEPS: Final = 7 * 14
"""More ends than a week of windows has: a zone that is never out of them must end the search."""


@dataclass(frozen=True, slots=True)
class QuietWindow:
    """On these weekdays (Monday is 0), from `start` minutes after midnight for `length` minutes on the wall; a day at most."""

    days: frozenset[int]
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Without windows: never quiet."""

    time_zone: str = ""
    windows: tuple[QuietWindow, ...] = ()

    def until(self, moment: datetime) -> datetime | None:
        """When the quiet hours end that `moment` is in; None outside of them.

        None as well with a zone that the time zone database has no more: then people are paged.
        """
        end = moment
        try:
            for _ in range(_MOST_STEPS):
                later = self._end_at(end)
                if later is None:
                    break
                end = later
        except (BadTime, OverflowError):
            return None
        return end if end > moment else None

    def _end_at(self, moment: datetime) -> datetime | None:
        """The latest end of the windows that `moment` is in."""
        today = as_wall_time(moment, self.time_zone).date()
        found: list[datetime] = []
        for day in (today - timedelta(days=1), today):
            midnight = datetime.combine(day, time())
            for window in self.windows:
                if day.weekday() in window.days:
                    start = midnight + timedelta(minutes=window.start)
                    end = start + timedelta(minutes=window.length)
                    if self._instant(start) <= moment < self._instant(end):
                        found.append(self._instant(end))
        return max(found, default=None)

    def _instant(self, wall: datetime) -> datetime:
        return earliest_instant_of(wall, self.time_zone)

    def leave_nothing(self) -> bool:
        """Whether the whole week is quiet: a page of low urgency would wait for ever."""
        covered = sorted(
            (day * DAY + window.start, day * DAY + window.start + window.length)
            for window in self.windows
            for day in window.days
        )
        reached = max((end - WEEK for _, end in covered), default=0)
        for start, end in covered:
            if start > max(reached, 0):
                return False
            reached = max(reached, end)
        return reached >= WEEK

    def __str__(self) -> str:
        """`Mon, Tue 22:00 to 07:00 in Europe/Berlin`."""
        return f"{'; '.join(map(_told, self.windows))} in {self.time_zone}"


def _told(window: QuietWindow) -> str:
    days = ", ".join(_DAYS[day] for day in sorted(window.days))
    end = window.start + window.length
    return f"{days} {clock(window.start)} to {clock(end if end <= DAY else end - DAY)}"


def clock(minute: int) -> str:
    """`07:30`; of a day's last minute `24:00`."""
    return f"{minute // 60:02}:{minute % 60:02}"
