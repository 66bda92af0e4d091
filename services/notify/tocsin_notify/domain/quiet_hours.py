"""Quiet hours: times of the week at which pages of low urgency wait. High urgency never does.

They are local times. A window is from the instant at which the clocks show its start to the instant at which they show its end: the
first one if they show it twice; what they skip is as much later as they skip. Windows that touch or overlap are one.
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
"""Minutes by which a clock that is changed may show another time than one that is not."""
_MOST_STEPS: Final = 4
"""Stretches that follow one another, which they do only where clocks skip what is between them."""


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

        None as well with a zone that the time zone database has no more: then people are paged. It is asked for each step of each
        page, so that the windows are put together once, and those far from the moment are never turned into instants.
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
        """The latest end of the stretches that `moment` is in."""
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
    """Windows that touch or overlap as one, in minutes of the week from Monday on; the last may go on into the next week."""
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
    while len(made) > 1 and made[-1][1] >= made[0][0] + WEEK:  # Sunday's night goes on in Monday's
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
