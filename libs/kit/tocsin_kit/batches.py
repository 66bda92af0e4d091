"""Group commit: what arrives while one batch runs travels together in the next."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_log = get_logger(__name__)

_RETRY_AFTER: Final = 1.0


class Batches(Generic[Item, Answer]):
    """Runs `work` on batches of at most `most` items; every caller gets its own item's answer, or its own error.

    `lane` tells which items may go together (all of them without it). One batch of a lane runs at a time, lanes take
    turns, and `at_once` batches run side by side: a lane's flood makes its own batches bigger and does not make others wait
    longer. At most `waiting` items wait, and with lanes at most half of that in one of them; more are refused.

    `work` answers each item with its answer or an exception. What it raises is the answer to the whole batch if it is a
    TocsinError (the database is away). Anything else may be one item's fault: the batch is repeated in halves, so that this
    item fails alone. So `work` must have done nothing when it raises.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        most: int,
        waiting: int = 20_000,
        lane: Callable[[Item], Hashable] | None = None,
        at_once: int = 1,
    ) -> None:
        self._work = work
        self._most = most
        self._lane = lane
        self._at_once = at_once
        self._capacity = waiting
        self._lane_capacity = waiting // 2 if lane is not None else waiting
        self._queues: dict[Hashable, deque[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._turn: deque[Hashable] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._start_due = False

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return self._waiting

    async def submit(self, item: Item) -> Answer:
        """The answer for one item. Raises OVERLOADED, or what `work` raised or answered."""
        return await self.enqueue(item)

    async def submit_all(self, items: Sequence[Item]) -> list[Answer]:
        """The answers in order; raises the first failure once all have ended."""
        futures = [self.enqueue(item) for item in items]
        await asyncio.wait(futures) if futures else None
        return [future.result() for future in futures]

    def enqueue(self, item: Item) -> "asyncio.Future[Answer]":
        """As `submit`, for callers that wait later. Raises OVERLOADED at once. A cancelled item is left out."""
        lane = self._lane(item) if self._lane is not None else None
        queue = self._queues.get(lane)
        if self._waiting >= self._capacity or (queue is not None and len(queue) >= self._lane_capacity):
            raise TocsinError(
                ErrorReason.ERROR_REASON_OVERLOADED,
                "more waits to be stored than may wait; send it again a little later",
                retry_after=_RETRY_AFTER,
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if queue is None:
            queue = self._queues[lane] = deque()
            self._turn.append(lane)
        queue.append((item, future))
        self._waiting += 1
        if not self._start_due:
            # At the end of this turn of the loop: what arrives in it goes together.
            self._start_due = True
            loop.call_soon(self._start)
        return future

    async def drain(self) -> None:
        """Return when nothing waits or runs."""
        while self._running or self._waiting:
            if self._running:
                await asyncio.wait(self._running)
            else:
                self._start()

    def _start(self) -> None:
        self._start_due = False
        while self._turn and len(self._running) < self._at_once:
            # A context of its own: a batch is no part of the call that happened to come first, nor are its log lines.
            task = asyncio.get_running_loop().create_task(
                self._run(self._turn.popleft()), context=contextvars.Context()
            )
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._start()

    async def _run(self, lane: Hashable) -> None:
        queue = self._queues[lane]
        batch = [queue.popleft() for _ in range(min(self._most, len(queue)))]
        self._waiting -= len(batch)
        try:
            await self._serve([(item, future) for item, future in batch if not future.cancelled()])
        finally:
            if queue:
                self._turn.append(lane)
            else:
                del self._queues[lane]

    async def _serve(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._work([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, TocsinError):
                _log.warning("batch_split", size=len(batch), error=repr(error))
                middle = len(batch) // 2
                await self._serve(batch[:middle])
                await self._serve(batch[middle:])
                return
            # The callers report it.
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
