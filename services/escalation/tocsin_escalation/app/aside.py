"""What callers ask that takes long to compute: in one thread, and of each tenant one question after the other.

Threads share the interpreter with the loop, which waits for each that computes whenever it has something to do: thirty such
questions of one tenant at once kept the pages of all others for a minute. Pages have threads of their own.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="questions")
_lines: Final[dict[str, "_Line"]] = {}


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
