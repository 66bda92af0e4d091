"""Many callers, one round trip: whatever arrives while a call to Redis runs travels together in the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MOST_PER_CALL = 1000
"""A script of this size holds Redis for about 2 ms, and Lua cannot unpack many times more."""


class Batcher(Generic[Item, Answer]):
    """Collects the items of concurrent callers into calls of at most a thousand, one call at a time, in order.

    A lone caller pays nothing: its call runs in its own task. A failed call fails exactly the callers whose items it
    carried, with the same exception. Waiting callers are as many as there are callers: this holds no queue of its own.
    """

    def __init__(self, call: Callable[[list[Item]], Awaitable[Sequence[Answer]]]) -> None:
        self._call = call
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._busy = False
        self._drainer: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """One item through the next call. Cancelling the caller does not take back an item that is on its way."""
        if self._busy:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting.append((item, future))
            return await future
        self._busy = True
        try:
            return (await self._call([item]))[0]
        finally:
            if self._waiting:
                self._drainer = asyncio.create_task(self._drain())
            else:
                self._busy = False

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_PER_CALL))]
                try:
                    answers = await self._call([item for item, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                except BaseException:
                    for _, future in batch:
                        future.cancel()
                    raise
                else:
                    for (_, future), answer in zip(batch, answers, strict=True):
                        if not future.done():
                            future.set_result(answer)
                # Let those who just got their answer ask again, so that they travel together and not one by one.
                await asyncio.sleep(0)
        finally:
            self._busy = False
            while self._waiting:
                self._waiting.popleft()[1].cancel()
