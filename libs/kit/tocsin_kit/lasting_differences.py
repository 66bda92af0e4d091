"""Differences that last: one that is seen once may be an event that is being delivered."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_MOST: Final = 100_000
_LONGEST_PAUSE: Final = 3600.0


@dataclass(slots=True)
class _Difference:
    since: float
    due: float
    pause: float
    seen: bool = True


class LastingDifferences(Generic[T]):
    """Remembers what differs, for at most 100,000 at a time. Something is due once it has lasted for `grace` seconds.

    What stays after it was `tried` comes due again after growing pauses, up to an hour.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._known: dict[T, _Difference] = {}

    def due(self, found: Iterable[T]) -> list[T]:
        """Notes that these are seen; those that are due now."""
        now = asyncio.get_running_loop().time()
        due = []
        for each in found:
            difference = self._known.get(each)
            if difference is None:
                if len(self._known) < _MOST:
                    self._known[each] = _Difference(now, now + self._grace, self._grace)
                continue
            difference.seen = True
            if now >= difference.due:
                due.append(each)
        return due

    def tried(self, mended: Iterable[T]) -> None:
        """These were repaired just now: one that is seen again was not repaired by that."""
        now = asyncio.get_running_loop().time()
        for each in mended:
            if (difference := self._known.get(each)) is not None:
                difference.pause = min(_LONGEST_PAUSE, 2 * difference.pause)
                difference.due = now + difference.pause

    def forget_others(self) -> None:
        """Everything was compared: what was not seen since the last time is no difference any more."""
        self._known = {each: difference for each, difference in self._known.items() if difference.seen}
        for difference in self._known.values():
            difference.seen = False

    def lasting(self) -> list[T]:
        """Those that have lasted for longer than the grace."""
        now = asyncio.get_running_loop().time()
        return [each for each, difference in self._known.items() if now - difference.since > self._grace]
