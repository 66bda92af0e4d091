"""Ends work that takes too long, in code that runs for every call.

`asyncio.timeout` makes and closes a timer for each use, which in uvloop costs 15 µs: a call with two of them spends a tenth of
its time on that. All uses of one `TimeLimit` last equally long, so that the oldest ends first and one timer serves them all.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class TooLate(TimeoutError):
    """The limit itself ended the work. Another TimeoutError comes from the work."""


class _Use:
    __slots__ = ("before", "end", "late", "task")

    def __init__(self, task: "asyncio.Task[object]", end: float) -> None:
        self.task = task
        self.end = end
        self.before = task.cancelling()
        self.late = False


class TimeLimit:
    """Lets work take `seconds` and no longer. Any number of tasks may be inside at once, and one task several times."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._uses: dict[_Use, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, work: Awaitable[T]) -> T:
        """What `work` gives. Raises `TooLate` once the time is over; the task is cancelled inside of `work` for that."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "there is no task to cancel"
        use = _Use(task, loop.time() + self._seconds)
        self._uses[use] = None
        if self._timer is None:
            self._timer = loop.call_at(use.end, self._look, loop)
        try:
            result = await work
        except BaseException as error:
            # As in `asyncio.timeout`: a cancel that came from elsewhere in the same moment goes on.
            if use.late and task.uncancel() <= use.before and isinstance(error, asyncio.CancelledError):
                raise TooLate from error
            raise
        finally:
            self._uses.pop(use, None)
        if use.late:
            task.uncancel()
        return result

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._uses:
            use = next(iter(self._uses))
            if now < use.end:
                self._timer = loop.call_at(use.end, self._look, loop)
                return
            del self._uses[use]
            use.late = True
            use.task.cancel()
