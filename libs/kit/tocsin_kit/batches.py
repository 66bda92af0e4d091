"""Group commit: items that arrive while one batch runs form the next batch."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, Generic, TypeVar

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.time_slices import yield_to_others

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_log = get_logger(__name__)

_RETRY_AFTER: Final = 1.0
_REPEATS: Final = 8
"""Items in a batch, as a multiple of `most`, when some of them are equal."""
_AT_ONCE: Final = 100
"""Answers that are delivered in one iteration of the event loop, or those of one future: between two of these the next batch
makes progress."""

_Parcel = tuple[Sequence[Item], "asyncio.Future[Any]", object]
"""Items that wait for one future, and their call. Without a call: one item, and the future gets its answer; otherwise a list."""


class _Lane(Generic[Item]):
    """The items that wait in one lane."""

    __slots__ = ("has_turn", "length", "parcels", "running")

    def __init__(self) -> None:
        self.parcels: deque[_Parcel[Item]] = deque()
        self.length = 0
        """The number of items."""
        self.has_turn = False
        """It waits for its turn, or has it and its items are about to be taken."""
        self.running = 0
        """Batches with items of this lane that run."""

    def take(self, most: int, alike: Callable[[Item], Hashable]) -> "list[_Parcel[Item]]":
        """Remove whole parcels, in their order, with `most` different items together.

        A parcel with too many new items is skipped, and parcels of other calls behind it are still taken: concurrent calls have
        no order. Parcels without a call keep their order.
        """
        batch: list[_Parcel[Item]] = []
        left: list[_Parcel[Item]] = []
        calls: set[int] = set()
        different: set[Hashable] = set()
        total = 0
        while self.parcels and total < _REPEATS * most:
            parcel = self.parcels.popleft()
            items, _, call = parcel
            new: set[Hashable] = set()
            fits = False
            # For parcels behind a full batch, one item is mostly enough to see that they are no repeats.
            if not batch or len(different) < most or alike(items[0]) in different:
                new = set(map(alike, items)) - different
                fits = len(different) + len(new) <= most and total + len(items) <= _REPEATS * most
            if id(call) not in calls and (fits or not batch):
                different |= new
                total += len(items)
                batch.append(parcel)
                continue
            left.append(parcel)
            calls.add(id(call))
            if call is None:
                break
        self.parcels.extendleft(reversed(left))
        self.length -= total
        return batch


class Several(Generic[Answer]):
    """Items that wait for their batch together."""

    def __init__(self, waiting: "Sequence[asyncio.Future[Any]]", refused: int) -> None:
        self._waiting = waiting
        self.refused: Final = refused
        """How many of the last items were refused because the queue was full."""

    async def answers(self) -> "list[Answer | Exception]":
        """An answer or an exception for each, in order. When the caller is cancelled, items that still wait are dropped."""
        # gather needs a callback for each future, and mostly there is only one.
        found = [await self._waiting[0]] if len(self._waiting) == 1 else await asyncio.gather(*self._waiting)
        answers: list[Answer | Exception] = [each for part in found for each in part]
        return answers + [overloaded()] * self.refused if self.refused else answers


class Batches(Generic[Item, Answer]):
    """Runs `work` on batches of at most `most` items; every caller gets the answer or the error of its own item.

    `lane` returns the group of an item; only items of one group share a batch (without it: all items). One batch of a lane runs
    at a time, lanes alternate, and `at_once` batches run concurrently: many items in one lane make its own batches larger, and do
    not delay other lanes. At most `waiting` items wait, and in a single lane at most half of that; further ones are refused.

    `beside` returns how many batches of a lane may run at a time, for lanes whose items need no order.

    `together`: lanes with at most this many waiting items share a batch, so that a thousand lanes with one item each do not need
    a thousand batches. A lane with more waiting items has batches of its own: it would make the shared batch slow for all. The
    same holds for a lane that is `alone` at that moment.

    Items with equal `alike` (without it: the same object) count once for `most`, and `work` gets each of them: work that is done
    once for all equal items allows more items in a batch, up to `_REPEATS` times `most`. Calls whose items are all in the batch
    already are taken before earlier calls with other items.

    `work` returns an answer or an exception for each item. A TocsinError that it raises is the answer for the whole batch (the
    database is away). Any other error may be caused by one item: the batch is repeated in halves, so that only this item fails.
    So `work` must have changed nothing when it raises.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        most: int,
        waiting: int = 20_000,
        lane: Callable[[Item], Hashable] | None = None,
        alike: Callable[[Item], Hashable] = id,
        at_once: int = 1,
        together: int = 0,
        alone: Callable[[Hashable], bool] = lambda lane: False,
        beside: Callable[[Hashable], int] = lambda lane: 1,
    ) -> None:
        self._work = work
        self._most = most
        self._lane = lane
        self._alike = alike
        self._at_once = at_once
        self._together = together
        self._alone = alone
        self._beside = beside
        self._capacity = waiting
        self._lane_capacity = waiting // 2 if lane is not None else waiting
        self._lanes: dict[Hashable, _Lane[Item]] = {}
        self._turn: deque[Hashable] = deque()
        self._running: set[asyncio.Task[None]] = set()
        """Batches that run, and those whose answers are being delivered."""
        self._working = 0
        self._waiting = 0
        self._start_due = False

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return self._waiting

    async def submit(self, item: Item) -> Answer:
        """The answer for one item. Raises OVERLOADED, or what `work` raised or answered."""
        return await self.enqueue(item)

    def enqueue_each(self, items: Sequence[Item], call: object = None) -> "Several[Answer]":
        """For items of one lane that arrive together: they wait for one future, or one for each `most` of them.

        Items beyond the limit are answered OVERLOADED. `call`: the call they belong to, if it has several such parts, which are
        committed in their order.
        """
        if not items:
            return Several((), 0)
        lane = self._lane_of(items[0])
        taken = items[: self._room(lane)]
        starts = range(0, len(taken), self._most)
        of = object() if call is None else call
        return Several(
            [self._add(lane, taken[start : start + self._most], of) for start in starts], len(items) - len(taken)
        )

    def enqueue(self, item: Item) -> "asyncio.Future[Answer]":
        """Like `submit`, for callers that wait later. Raises OVERLOADED at once. A cancelled item is dropped."""
        lane = self._lane_of(item)
        if self._room(lane) <= 0:
            raise overloaded()
        return self._add(lane, (item,), None)

    def _lane_of(self, item: Item) -> Hashable:
        return self._lane(item) if self._lane is not None else None

    def _room(self, lane: Hashable) -> int:
        queue = self._lanes.get(lane)
        taken = queue.length if queue is not None else 0
        return max(0, min(self._capacity - self._waiting, self._lane_capacity - taken))

    def _add(self, lane: Hashable, items: Sequence[Item], call: object) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = _Lane()
        queue.parcels.append((items, future, call))
        queue.length += len(items)
        self._waiting += len(items)
        self._give_turn(lane, queue)
        if not self._start_due:
            # At the end of this iteration of the event loop: items that arrive in it share a batch.
            self._start_due = True
            loop.call_soon(self._start)
        return future

    def _give_turn(self, lane: Hashable, queue: _Lane[Item]) -> bool:
        """Whether the lane gets a turn now: it has items, no turn yet, and may have another batch."""
        if not queue.parcels or queue.has_turn or queue.running >= self._beside(lane):
            return False
        queue.has_turn = True
        self._turn.append(lane)
        return True

    async def drain(self) -> None:
        """Return when no item waits or is being processed."""
        while self._running or self._waiting:
            if self._running:
                await asyncio.wait(self._running)
            else:
                self._start()

    def _start(self) -> None:
        self._start_due = False
        while self._turn and self._working < self._at_once:
            self._working += 1
            # A context of its own: a batch does not belong to the call that arrived first, and neither do its log lines.
            task = asyncio.get_running_loop().create_task(self._run(self._next()), context=contextvars.Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _next(self) -> list[Hashable]:
        """The lanes of the next batch, in rotation."""
        first = self._turn.popleft()
        chosen, total = [first], self._lanes[first].length
        if total > self._together or self._alone(first):
            return chosen
        for lane in self._turn:
            length = self._lanes[lane].length
            if length <= self._together and total + length <= self._most and not self._alone(lane):
                chosen.append(lane)
                total += length
        if len(chosen) > 1:
            taken = set(chosen)
            self._turn = deque(lane for lane in self._turn if lane not in taken)
        return chosen

    async def _run(self, lanes: Sequence[Hashable]) -> None:
        batch: list[_Parcel[Item]] = []
        more = False
        for lane in lanes:
            queue = self._lanes[lane]
            batch += queue.take(self._most, self._alike)
            queue.has_turn = False
            queue.running += 1
            more |= self._give_turn(lane, queue)
        self._waiting -= sum(len(items) for items, _, _ in batch)
        if more:
            self._start()
        batch = [parcel for parcel in batch if not parcel[1].cancelled()]
        answers: Sequence[Answer | Exception] = ()
        try:
            if batch:
                answers = await self._answers([item for items, _, _ in batch for item in items])
        finally:
            self._working -= 1
            for lane in lanes:
                queue = self._lanes[lane]
                queue.running -= 1
                self._give_turn(lane, queue)
                if not queue.running and not queue.parcels:
                    del self._lanes[lane]
            # Started before the callers continue: processing many answers takes as long as the next batch waits for the database.
            self._start()
        await self._give_out(batch, answers)

    async def _give_out(self, batch: "list[_Parcel[Item]]", answers: "Sequence[Answer | Exception]") -> None:
        start = given = 0
        for items, future, call in batch:
            end = start + len(items)
            if given and given + len(items) > _AT_ONCE:
                given = 0
                await yield_to_others()
            given += len(items)
            if not future.done():
                if call is not None:
                    future.set_result(answers[start:end])
                elif isinstance(answer := answers[start], Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
            start = end

    async def _answers(self, items: list[Item]) -> list[Answer | Exception]:
        try:
            answers = list(await self._work(items))
        except Exception as error:
            if len(items) > 1 and not isinstance(error, TocsinError):
                _log.warning("batch_split", size=len(items), error=repr(error))
                middle = len(items) // 2
                return [*await self._answers(items[:middle]), *await self._answers(items[middle:])]
            # The callers report it.
            return [error] * len(items)
        assert len(answers) == len(items), "an answer for each"
        return answers


def overloaded() -> TocsinError:
    """The error for an item beyond the limit."""
    return TocsinError(
        ErrorReason.ERROR_REASON_OVERLOADED,
        "more waits to be stored than may wait; send it again a little later",
        retry_after=_RETRY_AFTER,
    )
