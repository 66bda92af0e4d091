"""Timers in Redis as copies of rows elsewhere: armed after the commit, armed again when Redis has lost them, reported when they
die."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from tocsin_timers.broker import TimerBroker
from tocsin_timers.errors import TimersError
from tocsin_timers.figures import DeadLetter, QueueFigures
from tocsin_timers.source import Clock, Timer, TimerSource

logger = logging.getLogger(__name__)

MOST_WAITING: Final = 20_000
"""Timers that wait to be sent; more are dropped, which means that Redis is slow or away."""
DEAD_LETTERS: Final = 500
"""Dead letters that one round takes."""
CLOSE_SECONDS: Final = 2.0

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of all timers that are due later."""

    timers: Iterable[Timer]
    """Nearest first; gone through once. Due times are the record's."""
    count: int
    now: datetime
    """The record's clock when it was read."""
    last: Any
    """Where the next chunk begins; None: this was the last one."""


class Record(Protocol):
    """The owner of the rows, which decide. When a copy in Redis is lost, the owner finds the due row."""

    async def later(self, after: Any) -> Chunk:
        """What is due later, behind `last` of another chunk; None: from the nearest on."""
        ...

    async def paused(self) -> bool:
        """Whether the queue is to rest."""
        ...

    async def dead(self, letters: Sequence[DeadLetter]) -> None:
        """Note a message that was given up; it is removed from Redis afterwards. If this raises, the message stays there."""
        ...


class TimerMirror:
    """Keeps the copies of a record's rows. Nothing here has to succeed: a lost copy is found by its row.

    Due times are by the record's clock. The remaining time is counted by this process's monotonic clock and added to Redis' own
    time. So hosts whose clocks differ by hours fire on time, and so does a record whose clock a test moves.
    """

    def __init__(
        self,
        broker: TimerBroker,
        record: Record,
        *,
        available: Callable[[float], object] = lambda value: None,
        dropped: Callable[[float], object] = lambda number: None,
    ) -> None:
        """`available`: told 1 or 0 after every look and every sending. `dropped`: told how many could not be armed."""
        self._broker = broker
        self._record = record
        self._available = available
        self._dropped = dropped
        self._source = TimerSource(broker, clock=_process_clock)
        self._waiting: dict[str, Timer | None] = {}
        self._sending: asyncio.Task[None] | None = None
        self._was_available: bool | None = None

    def arm(self, timers: Iterable[Timer], now: datetime) -> None:
        """Arm or move these soon, without waiting for it. `now`: the record's clock when they were read or written."""
        shift = _process_clock() - now
        for timer in timers:
            self._put(timer.id, timer._replace(due=timer.due + shift))

    def disarm(self, ids: Iterable[str]) -> None:
        """Take these out soon. A timer that stays fires, and the record decides whether it has an effect."""
        for id in ids:
            self._put(id, None)

    async def watch(self) -> None:
        """One round, to be repeated every second by any number of processes: fill a Redis that lost its data, copy the pause,
        pass on dead letters. Raises what the record raises; a Redis that is away is no error."""
        try:
            await self._mirror_pause()
            await self._broker.refill(self.fill)
            await self._clear_dead()
            await self._broker.check()
        except (RedisError, OSError) as error:
            self._note(False, error)
        else:
            self._note(True)

    async def fill(self) -> int:
        """Arm everything that is due later, nearest first; how many. Raises RedisError and what the record raises.

        While one chunk goes into Redis the next one is read: the two stores work side by side.
        """
        count = 0
        following: tuple[Chunk, Clock] | None = await self._read(None)
        while following is not None:
            chunk, clock = following
            following, _ = await asyncio.gather(self._behind(chunk), self._source.arm(chunk.timers, clock=clock))
            count += chunk.count
        if count:
            logger.info("%s: %d timers armed anew", self._broker.queue, count)
        return count

    async def tell_pause(self, paused: bool) -> None:
        """Tell the workers at once whether the record is paused. Without Redis they are told by `watch`."""
        try:
            await (self._broker.pause() if paused else self._broker.resume())
        except (RedisError, OSError) as error:
            logger.warning("%s: Redis is told of the pause (%s) later: %r", self._broker.queue, paused, error)

    async def look(self) -> tuple[QueueFigures | None, bool]:
        """The queue's figures, None while Redis cannot be read; and whether it stores what it is given."""
        figures = None
        try:
            figures = await self._broker.figures()
            await self._broker.check()
        except (RedisError, OSError) as error:
            logger.debug("%s: Redis tells no figures, or stores nothing: %r", self._broker.queue, error)
            return figures, False
        return figures, True

    async def close(self) -> None:
        """Send what waits, for two seconds at most."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=CLOSE_SECONDS)
            self._sending.cancel()

    def _put(self, id: str, timer: Timer | None) -> None:
        if len(self._waiting) >= MOST_WAITING and id not in self._waiting:
            self._dropped(timer is not None)
            return
        self._waiting[id] = timer
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all(), name=f"{self._broker.queue} timers")

    async def _send_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            armed = [timer for timer in waiting.values() if timer is not None]
            cancelled = [id for id, timer in waiting.items() if timer is None]
            try:
                if armed:
                    await self._source.arm(armed)
                if cancelled:
                    await self._source.delete_schedules(cancelled)
            except (RedisError, OSError, TimersError) as error:
                self._dropped(len(armed))
                self._note(False, error)
            else:
                if armed:  # a Redis that is full still lets timers be taken out
                    self._note(True)

    async def _behind(self, chunk: Chunk) -> tuple[Chunk, Clock] | None:
        return None if chunk.last is None else await self._read(chunk.last)

    async def _read(self, after: Any) -> tuple[Chunk, Clock]:
        """A chunk with the record's clock as of its reading: it may wait for the chunk before it to be armed."""
        chunk = await self._record.later(after)
        return chunk, _clock_since(chunk.now)

    async def _mirror_pause(self) -> None:
        """Until both agree: an operator may change the record while Redis is being told the old value."""
        while (paused := await self._record.paused()) != await self._broker.is_paused():
            await (self._broker.pause() if paused else self._broker.resume())

    async def _clear_dead(self) -> None:
        letters = await self._broker.dead_letters(DEAD_LETTERS)
        if letters:
            await self._record.dead(letters)
            await self._broker.discard([letter.id for letter in letters])

    def _note(self, available: bool, error: Exception | None = None) -> None:
        self._available(available)
        if available == self._was_available:
            return
        self._was_available = available
        if available:
            logger.info("%s: Redis is available", self._broker.queue)
        else:
            logger.warning("%s: Redis is not available, timers come from the record: %r", self._broker.queue, error)


def _process_clock() -> datetime:
    """A monotonic clock: setting the system's time does not move it."""
    return _EPOCH + timedelta(seconds=time.monotonic())


def _clock_since(read: datetime) -> Clock:
    """A clock that was read a moment ago, going on by the monotonic one."""
    shift = read - _process_clock()
    return lambda: _process_clock() + shift
