"""Group commit: whatever arrives while one batch runs travels together in the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.errors import TocsinError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batches(Generic[Item, Answer]):
    """Runs `work` on batches of at most `most` items, one at a time; every caller gets its own item's answer.

    A batch that fails because of a defect or of one item's data is repeated item by item, so that one bad item fails
    alone; a failure with a reason (the database is away) fails the whole batch. More than `waiting` items are refused.
    """

    def __init__(
        self, work: Callable[[list[Item]], Awaitable[Sequence[Answer]]], *, most: int, waiting: int = 20_000
    ) -> None:
        self._work = work
        self._most = most
        self._bound = waiting
        self._queue: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """The answer for one item. Raises OVERLOADED, or what `work` raised."""
        return await self._enqueue(item)

    async def submit_all(self, items: Sequence[Item]) -> list[Answer]:
        """The answers in order; raises the first failure once all have ended."""
        futures = [self._enqueue(item) for item in items]
        await asyncio.wait(futures) if futures else None
        return [future.result() for future in futures]

    async def drain(self) -> None:
        """Return when nothing waits or runs."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    def _enqueue(self, item: Item) -> "asyncio.Future[Answer]":
        if len(self._queue) >= self._bound:
            raise TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "too much is waiting already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._queue.append((item, future))
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(self._most, len(self._queue)))]
                await self._serve([(item, future) for item, future in batch if not future.cancelled()])
        finally:
            self._runner = None

    async def _serve(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        try:
            answers = await self._work([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, TocsinError):
                for pair in batch:
                    await self._serve([pair])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
