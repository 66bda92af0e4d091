"""A watcher's place in a journal, which another replica can go on from, and whether changes were missed on the way.

Redis holds a limited number of changes, and some of them only while a watcher exists. `epoch` is a value that Redis holds for as
long as the queue is watched without a break: with another one, or after a flush, changes may be missing. They may be as well when
the change at which the watcher stood has gone from its stream.
"""

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tocsin.queue.v1 import task_pb2 as pb

from tocsin_kit import wall_clock
from tocsin_kit.tasks.journal import KEPT, LEFT_OUT, STREAMS, WATCHED, WATCHED_SECONDS, Journal, read, text

_LONGEST_SECONDS: Final = 3600
"""Age of a place that is gone on from: less than changes stay in Redis."""
_NOTHING: Final = "0-0"
_SAY: Final = """
local epoch = redis.call('GET', KEYS[1]) or ARGV[1]
redis.call('SET', KEYS[1], epoch, 'EX', ARGV[2])
return epoch
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Behind the changes that a watcher was told."""

    epoch: str
    """Empty: changes before it may be missed."""
    time: int
    """When it was so, in seconds of the epoch."""
    last: tuple[str, ...]
    """The last change of each stream."""


class News(NamedTuple):
    """What happened since the last look."""

    changes: Sequence[pb.TaskChange]
    partial: bool
    """Redis is away: it is of this replica only."""
    missed: bool
    """There may have been more: look at the lists again."""


class Watch:
    """One watcher. Raises nothing because Redis is away."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        _, self._serial = journal.own_since(0)
        self._epoch = ""
        self._last: dict[str, str] = {}
        self._said = -math.inf
        self._missed = False

    async def begin(self, place: Place | None = None) -> bool:
        """From `place` on, or from now on. Whether changes since then may be missed; they are not told in that case."""
        if place is not None:
            self._epoch, self._last = place.epoch, dict(zip(STREAMS, place.last, strict=True))
            self._missed = not place.epoch or wall_clock.now() - place.time > _LONGEST_SECONDS
        away = not await self._say()
        if place is None or self._missed:
            self._last = {} if away else await self._ends()
        missed, self._missed = self._missed, False
        return missed

    async def more(self) -> News:
        """What happened since the last look."""
        read_now = await self._read() if await self._say() else None
        if read_now is None:
            own, self._serial = self._journal.own_since(self._serial)
            self._missed = True  # what other replicas do meanwhile, when Redis is back
            return News([change for change in own if change != LEFT_OUT], True, False)
        _, self._serial = self._journal.own_since(self._serial)
        changes = [change for change in read_now if change != LEFT_OUT]
        missed, self._missed = self._missed or len(changes) < len(read_now), False
        return News(changes, False, missed)

    @property
    def place(self) -> Place | None:
        """Where the watcher stands; None while it has never reached Redis."""
        if not self._last:
            return None
        return Place(
            "" if self._missed else self._epoch, int(wall_clock.now()), tuple(self._last[name] for name in STREAMS)
        )

    async def _read(self) -> list[pb.TaskChange] | None:
        """None: Redis is away, and the place is where it was."""
        if not self._last:
            self._last, self._missed = await self._ends(), True
        found: list[tuple[str, pb.TaskChange]] = []
        ends: dict[str, str] = {}
        for name in STREAMS if self._last else ():
            last = self._last[name]
            rows = await self._journal.ask("XRANGE", self._journal.key(name), last, "+", "COUNT", KEPT + 1)
            if rows is None:
                return None
            if rows and text(rows[0][0]) == last:
                rows = rows[1:]
            elif last != _NOTHING:
                self._missed |= bool(rows)
                last, self._said = _NOTHING, -math.inf
            else:
                self._missed |= len(rows) >= self._journal.kept(name)
            found += read(rows)
            ends[name] = text(rows[-1][0]) if rows else last
        if not ends:
            return None
        self._last = ends
        return [change for _, change in sorted(found, key=lambda each: each[1].time.ToNanoseconds())]

    async def _ends(self) -> dict[str, str]:
        """Of the streams as they are now; nothing while Redis is away."""
        ends = {}
        for name in STREAMS:
            rows = await self._journal.ask("XREVRANGE", self._journal.key(name), "+", "-", "COUNT", 1)
            if rows is None:
                return {}
            ends[name] = text(rows[0][0]) if rows else _NOTHING
        return ends

    async def _say(self) -> bool:
        """Tell all replicas that the queue is watched, now and then. Whether Redis has taken it."""
        if time.monotonic() - self._said < WATCHED_SECONDS / 3:
            return True
        given = (self._journal.key(WATCHED), uuid.uuid4().hex, WATCHED_SECONDS)
        epoch = await self._journal.ask("EVAL", _SAY, 1, *given)
        if not epoch:
            return False
        self._said = time.monotonic()
        if self._epoch and self._epoch != text(epoch):
            self._missed = True
        self._epoch = text(epoch)
        return True
