"""When a layer's turns begin, and whose turn it is.

Days, weeks, months and hours that divide a day keep the local time; other hours keep their real length when clocks change. Months
are always counted from the anchor, and use the last day of a shorter month. Boundaries never go back; if the clocks skip a whole
turn, that turn has length zero.
"""

from bisect import bisect_right
from calendar import monthrange
from functools import lru_cache
from itertools import accumulate
from math import lcm
from typing import Final

from tocsin_escalation.domain.schedules.clock import DAY, WEEK, clock_or_utc, local_of, wall_of
from tocsin_escalation.domain.schedules.model import Counts, Layer, Turn
from tocsin_escalation.domain.schedules.windows import touched

_KEPT: Final = 16
"""Cached starts of turns of a layer: each question needs the first one, and some around an instant."""
_MONTH: Final = 43829
"""Minutes of an average month; only to guess where to look."""


class Turns:
    """The turns of one layer. Use `turns_of`, which keeps them."""

    def __init__(self, layer: Layer) -> None:
        self._clock = clock_or_utc(layer.zone)
        self._layer = layer
        self._anchor = layer.anchor
        self._keeps_wall = keeps_wall(layer.turns)
        months = [turn.months for turn in layer.turns]
        wall = [turn.days * DAY + (turn.hours * 60 if self._keeps_wall else 0) for turn in layer.turns]
        elapsed = [0 if self._keeps_wall else turn.hours * 60 for turn in layer.turns]
        # Sums before each turn of a cycle; the last is the whole cycle's.
        self._sums: list[tuple[int, int, int]] = list(
            zip(*(accumulate(each, initial=0) for each in (months, wall, elapsed)), strict=True)
        )
        months_all, wall_all, elapsed_all = self._sums[-1]
        self._cycle = months_all * _MONTH + wall_all + elapsed_all
        self._lengths = [months * _MONTH + wall + elapsed for months, wall, elapsed in self._sums]
        self._size = len(layer.turns)
        self._covered: list[int] = [0]
        self._starts: dict[int, int] = {}

    def start(self, turn: int) -> int:
        """The instant at which turn number `turn` begins; turns are counted from 0."""
        known = self._starts.get(turn)
        if known is None:
            if len(self._starts) >= _KEPT:
                self._starts.clear()
            local, elapsed = self._wall(turn)
            known = self._starts[turn] = self._clock.instant(local) + elapsed
        return known

    def at(self, minute: int) -> int:
        """The turn in which an instant lies; negative before the first."""
        turn = self._guess(minute)
        while self.start(turn) > minute:
            turn -= 1
        while self.start(turn + 1) <= minute:
            turn += 1
        return turn

    def place(self, turn: int) -> int:
        """Which group of the line-up has the turn."""
        counted = self._covered_before(turn) if self._layer.counts is Counts.COVERED else turn
        return (counted + self._layer.shift) % len(self._layer.line_up)

    def _wall(self, turn: int) -> tuple[int, int]:
        cycle, position = divmod(turn, self._size)
        months, wall, elapsed = self._sums[position]
        if cycle:
            every_months, every_wall, every_elapsed = self._sums[-1]
            months += every_months * cycle
            wall += every_wall * cycle
            elapsed += every_elapsed * cycle
        local = add_months(self._anchor, months) if months else self._anchor
        return local + wall, elapsed

    def _guess(self, minute: int) -> int:
        cycles, rest = divmod(minute - self.start(0), self._cycle)
        return cycles * self._size + bisect_right(self._lengths, rest) - 1

    def _covered_before(self, turn: int) -> int:
        """How many turns before this one have local time within a window."""
        period = self._period()
        cycles, rest = divmod(turn, period) if period else (0, turn)
        while len(self._covered) <= (period or rest):
            number = len(self._covered) - 1
            (begins, _), (ends, _) = self._wall(number), self._wall(number + 1)
            self._covered.append(self._covered[-1] + touched(self._layer.windows, begins, ends, self._layer.holidays))
        return self._covered[rest] + (cycles * self._covered[period] if cycles else 0)

    def _period(self) -> int:
        """After how many turns the weekdays and times repeat; 0 with months or holidays, which do not."""
        months, wall, _ = self._sums[-1]
        return 0 if months or self._layer.holidays else lcm(wall, WEEK) // wall * self._size


@lru_cache(4096)
def turns_of(layer: Layer) -> Turns:
    """The turns of a layer."""
    return Turns(layer)


def keeps_wall(turns: tuple[Turn, ...]) -> bool:
    """Whether turns of these lengths keep the local time when the clocks change."""
    hours = sum(turn.hours for turn in turns)
    return not hours or hours % 24 == 0 or 24 % hours == 0


def add_months(local: int, months: int) -> int:
    """The same day and time so many months later, or the last day of a shorter month."""
    time = wall_of(local)
    years, month = divmod(time.year * 12 + time.month - 1 + months, 12)
    day = min(time.day, monthrange(years, month + 1)[1])
    return local_of(time.replace(year=years, month=month + 1, day=day))
