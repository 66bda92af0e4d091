"""Provider calls under way in this process."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.counts import Counts
from tocsin_kit.loops import wait_or_stop
from tocsin_kit.time_slices import yield_to_others

from tocsin_notify.app.delivery.backlog import Backlog
from tocsin_notify.app.delivery.circuits import Circuits, Provider, provider_of
from tocsin_notify.app.delivery.late_calls import LateCalls
from tocsin_notify.app.delivery.permits import Permit
from tocsin_notify.app.delivery.send import Send
from tocsin_notify.app.delivery.slots import Slot, Slots
from tocsin_notify.channels.base import Delivery
from tocsin_notify.domain.attempt import Outcome, Retryable
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery.gate import Gate

_TO_BEGIN: Final = 0.05
"""Seconds for which the locks of a claim are held until one more of its calls has begun: longer than a call over an
open connection needs."""
_MOST_TO_BEGIN: Final = 0.25
"""The limit for all calls of a claim together. Each call that is later asks the gate by itself, which adds load to a
busy process."""
_IN_A_SLICE: Final = 8
"""Calls that take their first steps in one iteration of the event loop: a whole claim at once would block it for
milliseconds."""
_NEVER_BEGUN: Final = Retryable("the database was lost before the call began")


@dataclass(frozen=True, slots=True)
class Start:
    """A call to make: its attempt is committed, and this process holds its lease and its slot."""

    delivery: Delivery
    slot: Slot
    tries: int
    contact_method: UUID

    @property
    def provider(self) -> Provider:
        """The provider that is called."""
        return provider_of(self.slot.org_id, self.slot.channel, self.slot.destination)


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that ended."""

    start: Start
    outcome: Outcome
    seconds: float = 0.0
    """How long it took."""
    faults: str = ""
    """Why the template was not used, in words."""
    began: float = 0.0
    """By `time.monotonic`."""


class Calls:
    """Starts calls and gives each outcome to `finished`; the slot is free again after that."""

    def __init__(
        self,
        send: Send,
        gate: Gate,
        slots: Slots,
        backlog: Backlog,
        circuits: Circuits,
        metrics: NotifyMetrics,
        *,
        begins: Callable[[Start], object],
        finished: Callable[[Finished], Awaitable[object]],
    ) -> None:
        """`begins`: told of each call that begins. `finished`: given each that ended; raises nothing."""
        self._send = send
        self._late = LateCalls(gate)
        self._slots = slots
        self._backlog = backlog
        self._circuits = circuits
        self._metrics = metrics
        self._begins = begins
        self._finished = finished
        self._running: set[asyncio.Task[None]] = set()
        self._held: Counts[UUID] = Counts()
        """Attempts of each notification whose outcome is not written yet."""

    async def start(
        self, starts: Sequence[Start], since: float, *, give_way: Callable[[], Awaitable[object]] = yield_to_others
    ) -> None:
        """Return when every one of these calls has begun (see `store.delivery.gate`), or has lost the right to begin by itself.

        `since`: when the session of the claim was last known to be alive, by the clock of `store.delivery.gate`. The
        caller holds the gate's locks until this returns. A call that is late because its connection is slow asks the
        gate by itself. `give_way` lets other tasks run between some calls and the next ones.
        """
        if not starts:
            return
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()
        waiting = len(starts)

        def used() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                begun.set()

        permits = [Permit(self._late, start.delivery, since, used) for start in starts]
        end = loop.time() + _MOST_TO_BEGIN
        left = deque(zip(starts, permits, strict=True))
        try:
            while left:
                for _ in range(min(_IN_A_SLICE, len(left))):
                    self._begin(*left.popleft())
                if left:
                    await give_way()
            self._metrics.calls.set(len(self._running))
            before = waiting + 1
            while 0 < waiting < before and loop.time() < end:
                before = waiting
                await wait_or_stop(begun, _TO_BEGIN)
        finally:
            while left:  # the caller is cancelled, and they are recorded as begun
                self._begin(*left.popleft())
            for permit in permits:
                permit.revoke()

    def abandon(self, starts: Sequence[Start]) -> None:
        """The COMMIT of these attempts got no answer: none of them was called, and it is unknown whether they are
        recorded.

        Once the database is back, those that are recorded are made due at once, before their lease ends.
        """
        for start in starts:
            self._slots.end_call(start.slot)
            self._run_apart(start, self._conclude(Finished(start, _NEVER_BEGUN)))

    def holds(self, notification: UUID) -> bool:
        """Whether this process has a call of the notification under way, or an outcome of it that is not written yet."""
        return notification in self._held

    async def drain(self, grace: float) -> None:
        """Let calls end for `grace` seconds. Then cut them off and record that, so that any replica can make them
        again."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _begin(self, start: Start, permit: Permit) -> None:
        self._run_apart(start, self._run(start, permit))

    def _run_apart(self, start: Start, work: Coroutine[None, None, None]) -> None:
        notification = start.delivery.notification

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._held.less(notification)

        self._held[notification] += 1
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(ended)

    async def _run(self, start: Start, permit: Permit) -> None:
        self._begins(start)
        ended = await self._send(start.delivery, permit)
        if ended.counts:
            self._slots.learn(start.slot, hung=ended.hung)
            self._circuits.learn(start.provider, start.contact_method, ended.outcome, ended.seconds)
        self._metrics.send_seconds.labels(start.slot.channel).observe(ended.seconds)
        self._metrics.attempts.labels(start.slot.channel, type(ended.outcome).__name__.lower()).inc()
        self._slots.end_call(start.slot)
        await self._conclude(Finished(start, ended.outcome, ended.seconds, ended.faults, ended.began))

    async def _conclude(self, finished: Finished) -> None:
        try:
            await self._finished(finished)
        finally:
            self._slots.release(finished.start.slot)
            self._metrics.calls.set(len(self._running) - 1)
            self._backlog.slot_freed(finished.start.slot)
