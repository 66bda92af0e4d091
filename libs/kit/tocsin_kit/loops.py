"""Background loops that stop when asked, and whose failures are always logged."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeVar

import grpc

from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.metrics import Metrics

T = TypeVar("T")

RETENTION_FIRST: Final = 60.0
"""Seconds after its start within which a service begins to delete old rows (`Sweep`): the backlog of its absence is handled
first."""
Loop = Callable[[asyncio.Event], Awaitable[None]]

_log = get_logger(__name__)
_RESTART_BASE: Final = 0.1
_RESTART_CAP: Final = 5.0
_STEADY_SECONDS: Final = 30.0
_AWAY_BASE: Final = 0.1
_AWAY_CAP: Final = 0.3
"""Seconds between two attempts of background work while its dependency is away: a fraction of the delay that its return may cost
(1 s)."""
_SOONEST: Final = 0.1


async def wait_for_any(*events: asyncio.Event, seconds: float | None = None) -> bool:
    """Wait until one of the events is set, at most `seconds`; returns whether one is set."""
    with Waiter(*events) as waiter:
        return await waiter.wait(seconds)


class Waiter:
    """Waits for any of some events, again and again. Use it as a context: its end ends the tasks that wait.

    These are kept from one wait to the next: to make and cancel a task for each event costs most of a short round, and an idle
    service has a hundred rounds each second.
    """

    def __init__(self, *events: asyncio.Event) -> None:
        self._events = events
        self._tasks: dict[asyncio.Event, asyncio.Task[Literal[True]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until one of the events is set, at most `seconds`; returns whether one is set. It may return earlier when an event
        was set and cleared since the last wait."""
        if any(event.is_set() for event in self._events):
            return True
        for event in self._events:
            if event not in self._tasks or self._tasks[event].done():
                self._tasks[event] = asyncio.ensure_future(event.wait())
        await asyncio.wait(self._tasks.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return any(event.is_set() for event in self._events)


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Sleep that a stop ends at once. True when it is time to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return stop.is_set()
    return True


def backoff(attempt: int, *, base: float, cap: float) -> float:
    """Seconds before the attempt after `attempt` failed ones: exponential with full jitter, so that callers do not retry
    together."""
    return random.uniform(0, min(cap, base * 2.0 ** min(attempt, 40)))


def while_away(attempt: int) -> float:
    """Seconds before background work tries again that failed `attempt` times because its dependency is away."""
    return backoff(attempt, base=_AWAY_BASE, cap=_AWAY_CAP)


async def until(condition: Callable[[], object], seconds: float, *, step: float) -> None:
    """Check every `step` seconds until `condition` is true, at most `seconds`: for changes that have no event."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:  # noqa: ASYNC110 - nothing here could set an event
        await asyncio.sleep(step)


async def retry_until(
    stop: asyncio.Event,
    work: Callable[[], Awaitable[T]],
    *,
    passing: Callable[[TocsinError], bool] = lambda error: True,
    pause: Callable[[int], float] = while_away,
) -> T:
    """The result of `work`, retried while it raises a TocsinError that is `passing`, after `pause(failures)` seconds.

    A stop ends the wait; `work` is then tried once more. Raises the last TocsinError; an error that is not passing is raised at
    once.
    """
    failures = 0
    while True:
        last = stop.is_set()
        try:
            return await work()
        except TocsinError as error:
            if last or not passing(error):
                raise
        failures += 1
        await wait_or_stop(stop, pause(failures))


@dataclass(frozen=True, slots=True)
class _Loop:
    name: str
    run: Loop
    once: bool
    everywhere: bool


class Loops:
    """Runs each loop in a task; one that crashes or ends too early is logged, counted and restarted."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._loops: list[_Loop] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._everywhere: list[asyncio.Task[None]] = []

    def add(self, name: str, loop: Loop, *, once: bool = False, everywhere: bool = False) -> None:
        """`loop(stop)` should return soon after `stop` is set. `once`: it may end by itself when its work is done. `everywhere`:
        it continues work that calls to this process committed. So it also runs where only calls are served, and ends when no call
        is under way any more.
        """
        self._loops.append(_Loop(name, loop, once, everywhere))

    def start(self, stop: asyncio.Event, *, works: bool = True, calls_ended: asyncio.Event | None = None) -> None:
        """Start all that were added; not `works`: those that run everywhere, which end with `calls_ended`."""
        for loop in self._loops:
            if loop.everywhere:
                self._everywhere.append(self._start(loop, calls_ended or stop))
            elif works:
                self._tasks.append(self._start(loop, stop))

    async def join(self, grace: float) -> None:
        """Wait for the loops to end, at most `grace` seconds; cancel the rest and wait for their clean-up."""
        await _join(self._tasks, grace)

    async def join_everywhere(self, grace: float) -> None:
        """The same for those that run everywhere."""
        await _join(self._everywhere, grace)

    def _start(self, loop: _Loop, stop: asyncio.Event) -> asyncio.Task[None]:
        return asyncio.create_task(self._supervise(loop.name, loop.run, loop.once, stop), name=loop.name)

    async def _supervise(self, name: str, loop: Loop, once: bool, stop: asyncio.Event) -> None:
        crashes = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                await loop(stop)
            except Exception:
                self._metrics.loop_crashes.labels(name).inc()
                _log.exception("loop_crashed", loop=name)
            else:
                if once or stop.is_set():
                    return
                _log.error("loop_ended_early", loop=name)
            crashes = 1 if time.monotonic() - began > _STEADY_SECONDS else crashes + 1
            await wait_or_stop(stop, backoff(crashes, base=_RESTART_BASE, cap=_RESTART_CAP))


async def _join(tasks: list[asyncio.Task[None]], grace: float) -> None:
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=grace)
    for task in late:
        _log.warning("loop_cancelled", loop=task.get_name())
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Rounds:
    """Work that many callers ask for, and that is done once for all who asked before it began."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._began = float("-inf")

    async def after_now(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """The result of `work`; None when another round, which began after this call, has done it. Raises what `work` raises."""
        asked = time.monotonic()
        async with self._lock:
            if self._began > asked:
                return None
            # Only a successful round counts for the callers that wait for it.
            began = time.monotonic()
            answer = await work()
            self._began = began
            return answer


class Sweep:
    """`work` again and again, `every` seconds apart (± `jitter` of it), or at once after a nudge.

    `loops.add("name", Sweep(1.0, work))`. If its dependency is away, that is logged once and it tries again every few tenths of a
    second, however long `every` is: rows that became due meanwhile wait for it. Anything else is a crash, which `Loops` handles.
    """

    def __init__(
        self,
        every: float,
        work: Callable[[], Awaitable[object]],
        *,
        jitter: float = 0.1,
        nudged: asyncio.Event | None = None,
        first: float = 0.0,
    ) -> None:
        """`nudged`: an event that is set for due work before this sweep is built. `first`: the longest time until the first
        round, in seconds, for work that may wait while a service starts; a nudge starts it sooner. The time is random, from a
        tenth of that: a process that is restarted more often than every `first` seconds does this work as well.
        """
        self._every = every
        self._first = first
        self._work = work
        self._jitter = jitter
        self._nudged = nudged or asyncio.Event()

    def nudge(self) -> None:
        """Rows may be due now. Many nudges during one round make one more round."""
        self._nudged.set()

    async def __call__(self, stop: asyncio.Event) -> None:
        """The loop."""
        failures = 0
        with Waiter(self._nudged, stop) as waiter:
            if self._first:
                await waiter.wait(self._first * random.uniform(_SOONEST, 1.0))
            while not stop.is_set():
                self._nudged.clear()
                try:
                    await self._work()
                except TocsinError as error:
                    if error.code is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    failures += 1
                    if failures == 1:
                        _log.warning("sweep_waits", reason=error.reason_name, error=error.message)
                else:
                    failures = 0
                if failures:
                    await wait_or_stop(stop, min(self._every, while_away(failures)))
                else:
                    await self._rest(waiter)

    async def _rest(self, waiter: Waiter) -> None:
        await waiter.wait(self._every * random.uniform(1 - self._jitter, 1 + self._jitter))


async def run_every(
    every: float, work: Callable[[], Awaitable[object]], stop: asyncio.Event, *, jitter: float = 0.1
) -> None:
    """A `Sweep` without a name: runs `work` until stopped."""
    await Sweep(every, work, jitter=jitter)(stop)
