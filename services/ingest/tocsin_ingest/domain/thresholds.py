"""How many triggers of a group open an incident: counted over a rolling window, in a fixed number of counters."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

SLOTS: Final = 100
"""Parts of a window: triggers within one part count as at the time of the first one."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """`count` triggers within `window`."""

    count: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Tally:
    """The triggers of a group: when, and how many at that time; oldest first."""

    entries: tuple[tuple[datetime, int], ...] = ()

    @property
    def total(self) -> int:
        """How many."""
        return sum(count for _, count in self.entries)

    def within(self, now: datetime, window: timedelta) -> "Tally":
        """Without those before the window."""
        return Tally(tuple(each for each in self.entries if each[0] > now - window))

    def one_more(self, now: datetime, window: timedelta) -> "Tally":
        """With one more that comes now, within the window. At most `SLOTS` + 1 entries."""
        entries = self.within(now, window).entries
        if entries and now - entries[-1][0] < window / SLOTS:
            at, count = entries[-1]
            return Tally((*entries[:-1], (at, count + 1)))
        return Tally((*entries, (now, 1)))


@dataclass(frozen=True, slots=True)
class Below:
    """What an alert below its threshold waits for: its group, and how many triggers of it have come."""

    group_key: UUID
    threshold: Threshold
    triggers: int = 0
    labels: bytes | None = None
