"""Long computations for callers, in one thread, for each tenant one after the other.

Threads share the interpreter with the event loop, which waits for each thread that computes: thirty such requests of one tenant
at once delayed the pages of all others for a minute. Pages have threads of their own.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

P = ParamSpec("P")
T = TypeVar("T")

_THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="computations")
_queues: Final[dict[str, "_TenantQueue"]] = {}
_MOST_ATTEMPTS: Final = 4


class _TenantQueue:
    """The computations of one tenant. Only one request of each tenant waits for the thread, so tenants alternate."""

    def __init__(self) -> None:
        self.lock: Final = asyncio.Lock()
        self.callers = 0


async def compute(org_id: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `function`. Not within a transaction: other requests of the tenant may be first."""
    run = contextvars.copy_context().run
    queue = _queues.setdefault(org_id, _TenantQueue())
    queue.callers += 1
    try:
        async with queue.lock:
            return await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: run(function, *args, **kwargs))
    finally:
        queue.callers -= 1
        if not queue.callers:
            del _queues[org_id]


class Computations:
    """Long computations that a transaction needs.

    A transaction holds its connection and its locks, so it must not wait for the thread, where other requests of the tenant may
    be first. The transaction ends at its first computation, and starts again when the result is there. If it reads the same
    data then, it needs the same computation, whose result is known.
    """

    def __init__(self) -> None:
        self._results: list[tuple[tuple[object, ...], Any]] = []

    def result(self, function: Callable[..., T], *args: object) -> T:
        """The result of `function`. Ends the transaction when the result is not known; call it only in the work of `run`."""
        for asked, result in self._results:
            if asked == (function, *args):
                found: T = result
                return found
        raise _NotComputed(function, args)

    async def run(self, org_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, which has its own transaction. Raises CONFLICT if its data change again and again."""
        for _ in range(_MOST_ATTEMPTS):
            try:
                return await work()
            except _NotComputed as unknown:
                result = await compute(org_id, unknown.function, *unknown.asked)
                self._results.append(((unknown.function, *unknown.asked), result))
        raise TocsinError(
            reasons.ERROR_REASON_CONFLICT, "what the call is about was changed again and again meanwhile; send it again"
        )


async def in_transaction(db: Database, org_id: str, work: Callable[[Tx, Computations], Awaitable[T]]) -> T:
    """The result of `work` in a transaction of the tenant, with the computations that it needs. Raises as `Computations.run`."""
    computations = Computations()
    return await computations.run(org_id, lambda: db.run(org_id, lambda tx: work(tx, computations)))


class _NotComputed(Exception):
    """The result is not known yet."""

    def __init__(self, function: Callable[..., Any], args: tuple[object, ...]) -> None:
        super().__init__(function.__qualname__)
        self.function: Final = function
        self.asked: Final = args
