"""What callers ask that takes long to compute: in one thread, and of each tenant one question after the other.

Threads share the interpreter with the loop, which waits for each that computes whenever it has something to do: thirty such
questions of one tenant at once kept the pages of all others for a minute. Pages have threads of their own.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.errors import TocsinError

P = ParamSpec("P")
T = TypeVar("T")

_THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="questions")
_lines: Final[dict[str, "_Line"]] = {}
_MOST_BEGINNINGS: Final = 4


class _Line:
    """The questions of one tenant. Of each tenant one at a time is before the thread, so tenants take turns."""

    def __init__(self) -> None:
        self.lock: Final = asyncio.Lock()
        self.callers = 0


async def aside(org_id: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` gives. Not within a transaction: others of the tenant may be before it."""
    run = contextvars.copy_context().run
    line = _lines.setdefault(org_id, _Line())
    line.callers += 1
    try:
        async with line.lock:
            return await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: run(function, *args, **kwargs))
    finally:
        line.callers -= 1
        if not line.callers:
            del _lines[org_id]


class Questions:
    """What work in a transaction has to know and what takes long to compute.

    A transaction keeps its connection and its locks, so it must not wait for the thread, before which others of the tenant may be.
    It ends with its first question, and begins anew when that is answered. If what it read is the same then, so is the question.
    """

    def __init__(self) -> None:
        self._answers: list[tuple[tuple[object, ...], Any]] = []

    def answer(self, function: Callable[..., T], *args: object) -> T:
        """What `function` gives. Ends the transaction when that is not known: only in the work of `answering`."""
        for asked, answer in self._answers:
            if asked == (function, *args):
                found: T = answer
                return found
        raise _Unknown(function, args)

    async def answering(self, org_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, which has a transaction of its own. Raises CONFLICT if what it asks about changes again and again."""
        for _ in range(_MOST_BEGINNINGS):
            try:
                return await work()
            except _Unknown as unknown:
                answer = await aside(org_id, unknown.function, *unknown.asked)
                self._answers.append(((unknown.function, *unknown.asked), answer))
        raise TocsinError(
            reasons.ERROR_REASON_CONFLICT, "what the call is about was changed again and again meanwhile; send it again"
        )


class _Unknown(Exception):
    """A question that was not answered yet."""

    def __init__(self, function: Callable[..., Any], args: tuple[object, ...]) -> None:
        super().__init__(function.__qualname__)
        self.function: Final = function
        self.asked: Final = args
