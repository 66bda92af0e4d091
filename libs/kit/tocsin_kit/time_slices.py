"""Cooperative multitasking: long work on the event loop is cut into slices, between which other tasks run."""

import asyncio
import time
from collections import deque
from typing import Final

SLICE_SECONDS: Final = 0.01
"""Work that goes on for longer lets other tasks run (`TimeSlice`)."""


async def yield_to_others() -> None:
    """All other tasks that are ready run once."""
    await asyncio.sleep(0)


class _Scheduler:
    """Decides which of several long-running tasks of an event loop continues: one in each iteration, in the order in which they
    yielded."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False
        self._began = 0.0

    def begin(self) -> float:
        """The monotonic second at which the slice began, which is the same for all that begin in this iteration."""
        if not self._began:
            self._began = time.monotonic()
            self.loop.call_soon(self._begin_anew)
        return self._began

    async def wait(self) -> float:
        """Lets other tasks run; returns the monotonic second at which the next slice began."""
        if self._taken:
            future = self.loop.create_future()
            self._waiting.append(future)
            await future
        else:
            self._taken = True
            self.loop.call_soon(self._give_on)
            await asyncio.sleep(0)
        return self.begin()

    def _begin_anew(self) -> None:
        self._began = 0.0

    def _give_on(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                self.loop.call_soon(self._give_on)
                return
        self._taken = False


_scheduler: _Scheduler | None = None


def _current_scheduler() -> _Scheduler:
    global _scheduler
    loop = asyncio.get_running_loop()
    if _scheduler is None or _scheduler.loop is not loop:
        _scheduler = _Scheduler(loop)
    return _scheduler


class TimeSlice:
    """Lets other tasks run in the middle of long work: `await time_slice.yield_if_over()` between its items.

    While the slice lasts it only reads the clock. After `SLICE_SECONDS` the event loop runs before the next item: once, or once
    for each other long-running task that waits too. So twenty bodies that are inflated at once delay other tasks no longer than
    one.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """`seconds`: the length of a slice; shorter for work beside which others wait for the event loop again and again."""
        self._seconds = SLICE_SECONDS if seconds is None else seconds
        self._until = _current_scheduler().begin() + self._seconds

    @property
    def is_over(self) -> bool:
        """Whether it is time to yield. To be asked first where the items are so short that a coroutine for each costs too much."""
        return time.monotonic() >= self._until

    async def yield_if_over(self) -> bool:
        """Let other tasks run, if this slice is over; returns whether they did."""
        if not self.is_over:
            return False
        self._until = await _current_scheduler().wait() + self._seconds
        return True


class CountSlice:
    """Like `TimeSlice`, by number: the event loop runs once after each `few` items.

    For items that arrive by the hundred beside work that needs many short iterations of the loop: `TimeSlice` would handle all of
    them in one.
    """

    def __init__(self, few: int = 8) -> None:
        self._few = few
        self._done = 0

    async def yield_if_over(self) -> None:
        """Call it before each item."""
        if self._done == self._few:
            self._done = 0
            await yield_to_others()
        self._done += 1
