"""Many callers, one round trip: items that arrive while a call to Redis runs are sent together in the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MOST_PER_CALL: Final = 1000
"""A script of this size holds Redis for about 2 ms, and Lua cannot unpack many times more."""


class Batcher(Generic[Item, Answer]):
    """Collects the items of concurrent callers into calls of at most a thousand, one call at a time, in order.

    A lone caller has no extra cost: its call runs in its own task. A failed call fails exactly the callers whose items it
    carried, with the same exception. As many items wait as there are callers: this has no queue of its own.
    """

    def __init__(self, call: Callable[[list[Item]], Awaitable[Sequence[Answer]]]) -> None:
        self._call = call
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._busy = False
        self._drainer: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """One item through the next call. Cancelling the caller does not stop an item that is being sent."""
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
                # Let the callers that just got their answer ask again, so that their items are sent together.
                await asyncio.sleep(0)
        finally:
            self._busy = False
            while self._waiting:
                self._waiting.popleft()[1].cancel()


class Feed(Generic[Item]):
    """Sends a long series of items in calls, one at a time and in order; while one runs, the next one's items are made."""

    def __init__(self, call: Callable[[list[Item]], Coroutine[Any, Any, int]]) -> None:
        self._call = call
        self._running: asyncio.Task[int] | None = None
        self._total = 0
        self.items: list[Item] = []
        """Those of the next call: the owner appends, and sends when it is large enough."""

    async def send(self) -> None:
        """Begin the next call; returns when the one before has ended. Raises what that one raised."""
        await self._settle()
        items, self.items = self.items, []
        self._running = asyncio.create_task(self._call(items))
        # Its bytes must be sent before the caller keeps the loop busy with making more: redis-py needs two iterations of the loop
        # to lend a connection.
        for _ in range(3):
            await asyncio.sleep(0)

    async def finish(self) -> int:
        """Send the rest; returns the sum of all answers."""
        if self.items:
            await self.send()
        await self._settle()
        return self._total

    async def close(self) -> None:
        """Wait for every call; their results do not matter here."""
        if self._running is not None:
            await asyncio.wait({self._running})
            self._running.exception()
            self._running = None

    async def _settle(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            self._total += await running
