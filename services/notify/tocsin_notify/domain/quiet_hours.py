"""Quiet hours: times of the week at which pages of low urgency wait. High urgency never does.

They are local times. A window lasts from the instant at which clocks show its start to the instant at which they show
its end. If clocks show a time twice, the first instant counts; a skipped time counts as later by the length of the gap.
Windows that touch or overlap are one.
"""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Final

from tocsin_notify.domain.wall_time import BadTime, as_wall_time, earliest_instant_of

DAY: Final = 1440
WEEK: Final = 7 * DAY
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_AROUND: Final = 3 * 60
"""Minutes by which clocks can differ around a change of the clocks."""
_MOST_STEPS: Final = 4
"""Windows in a row that are joined; they only follow one another where clocks skip the time between them."""


@dataclass(frozen=True, slots=True)
class QuietWindow:
    """On these weekdays (Monday is 0), from `start` minutes after midnight for `length` minutes of local time; at most
    one day."""

    days: frozenset[int]
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Without windows: never quiet."""

    time_zone: str = ""
    windows: tuple[QuietWindow, ...] = ()

    def until(self, moment: datetime) -> datetime | None:
        """The end of the quiet hours that contain `moment`; None outside of them.

        Also None for a zone that the time zone database does not have any more: then people are paged. It is called for
        each step of each page. So windows are joined once, and those far from the moment are not converted into
        instants.
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
        """The latest end of the joined windows that contain `moment`."""
        wall = as_wall_time(moment, self.time_zone)
        monday = datetime.combine(wall.date() - timedelta(days=wall.weekday()), time())
        minute = (wall - monday) // timedelta(minutes=1)
        found: list[datetime] = []
        for first, last in stretches(self.windows):
            for shift in (-WEEK, 0, WEEK):
                if first + shift - _AROUND <= minute <= last + shift + _AROUND:
                    end = self._instant(monday + timedelta(minutes=last + shift))
                    if self._instant(monday + timedelta(minutes=first + shift)) <= moment < end:
                        found.append(end)
        return max(found, default=None)

    def _instant(self, wall: datetime) -> datetime:
        return earliest_instant_of(wall, self.time_zone)

    def leave_nothing(self) -> bool:
        """Whether the whole week is quiet: a page of low urgency would wait for ever."""
        return any(last - first >= WEEK for first, last in stretches(self.windows))

    def __str__(self) -> str:
        """`Mon, Tue 22:00 to 07:00 in Europe/Berlin`."""
        return f"{'; '.join(map(_told, self.windows))} in {self.time_zone}"


@lru_cache(4096)
def stretches(windows: tuple[QuietWindow, ...]) -> tuple[tuple[int, int], ...]:
    """Windows that touch or overlap, joined, in minutes of the week from Monday on; the last may continue into the next
    week."""
    made: list[tuple[int, int]] = []
    for first, last in sorted(
        (day * DAY + window.start, day * DAY + window.start + window.length)
        for window in windows
        for day in window.days
    ):
        if made and first <= made[-1][1]:
            made[-1] = made[-1][0], max(made[-1][1], last)
        else:
            made.append((first, last))
    while len(made) > 1 and made[-1][1] >= made[0][0] + WEEK:  # Sunday's night continues in Monday's
        made[-1] = made[-1][0], max(made[-1][1], made[0][1] + WEEK)
        del made[0]
    if len(made) == 1 and made[0][1] >= made[0][0] + WEEK:
        return ((0, WEEK),)
    return tuple(made)


def _told(window: QuietWindow) -> str:
    days = ", ".join(_DAYS[day] for day in sorted(window.days))
    end = window.start + window.length
    return f"{days} {clock(window.start)} to {clock(end if end <= DAY else end - DAY)}"


def clock(minute: int) -> str:
    """`07:30`; of a day's last minute `24:00`."""
    return f"{minute // 60:02}:{minute % 60:02}"
