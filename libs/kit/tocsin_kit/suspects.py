"""Differences that last: one that is seen once may be an event that is being delivered."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_MOST: Final = 100_000
_LONGEST_PAUSE: Final = 3600.0


@dataclass(slots=True)
class _Suspect:
    since: float
    due: float
    pause: float
    seen: bool = True


class Suspects(Generic[T]):
    """Remembers what differs, for at most 100,000 at a time. Something is due once it has lasted for `grace` seconds.

    What stays after it was `tried` comes due again after growing pauses, up to an hour.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._known: dict[T, _Suspect] = {}

    def due(self, found: Iterable[T]) -> list[T]:
        """Notes that these are seen; those that are due now."""
        now = asyncio.get_running_loop().time()
        due = []
        for each in found:
            suspect = self._known.get(each)
            if suspect is None:
                if len(self._known) < _MOST:
                    self._known[each] = _Suspect(now, now + self._grace, self._grace)
                continue
            suspect.seen = True
            if now >= suspect.due:
                due.append(each)
        return due

    def tried(self, mended: Iterable[T]) -> None:
        """These were repaired just now: one that is seen again was not repaired by that."""
        now = asyncio.get_running_loop().time()
        for each in mended:
            if (suspect := self._known.get(each)) is not None:
                suspect.pause = min(_LONGEST_PAUSE, 2 * suspect.pause)
                suspect.due = now + suspect.pause

    def forget_others(self) -> None:
        """Everything was compared: what was not seen since the last time is no difference any more."""
        self._known = {each: suspect for each, suspect in self._known.items() if suspect.seen}
        for suspect in self._known.values():
            suspect.seen = False

    def lasting(self) -> list[T]:
        """Those that have lasted for longer than the grace."""
        now = asyncio.get_running_loop().time()
        return [each for each, suspect in self._known.items() if now - suspect.since > self._grace]
