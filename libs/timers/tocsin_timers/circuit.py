"""The state of a whole process about a Redis that hangs: it counts as away after one time-out, until it answers again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from tocsin_timers.backoff import Backoff

logger = logging.getLogger(__name__)

T = TypeVar("T")

QUICK_SECONDS: Final = 0.1
"""A probe that fails within this time shows that commands fail at once by themselves: callers need not be held off."""


class RedisUnresponsive(ConnectionError):
    """The command was not sent, or its answer not waited for: Redis has let another command time out."""

    def __init__(self, circuit: "Circuit") -> None:
        super().__init__("Redis does not answer: an earlier command timed out, and the probe has no answer yet")
        self.circuit = circuit


class Circuit:
    """Open after one time-out: then commands fail at once, those under way too, and one probe asks until Redis answers.

    Share one between all brokers of a process that talk to the same server (`TimerBroker(..., circuit=)`). A server
    that refuses connections does not open it: there every command fails at once by itself, and the first one after its
    return succeeds.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]], drop_idle: Callable[[], Awaitable[object]]) -> None:
        """`ask`: has Redis write something through a connection that nothing else uses, and raises RedisError. `drop_idle`:
        closes the connections that are not in use, which may lead to a server that was replaced and would time out one by one."""
        self._ask = ask
        self._drop_idle = drop_idle
        self._running: set[asyncio.Timeout] = set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._probe: asyncio.Task[None] | None = None

    def is_open(self) -> bool:
        """Whether commands fail at once."""
        return self._probe is not None

    async def answers(self) -> None:
        """Return when Redis answers: at once while the circuit is closed."""
        await self._answering.wait()

    async def run(self, command: Callable[[], Awaitable[T]]) -> T:
        """The answer to `command`. Raises RedisUnresponsive while the circuit is open, and what the command raises."""
        if self._probe is not None:
            raise RedisUnresponsive(self)
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._running.add(scope)
                try:
                    return await command()
                finally:
                    self._running.discard(scope)
        except RedisTimeout as error:
            self._open(error)
            raise
        except TimeoutError:
            if not scope.expired():
                raise
            raise RedisUnresponsive(self) from None

    async def close(self) -> None:
        """End the probe; commands are then sent again, also when the last probe failed."""
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.cancel()
            await asyncio.wait({probe})
        self._answering.set()

    def _open(self, error: RedisTimeout) -> None:
        if self._probe is not None:
            return
        logger.warning("Redis does not answer (%r); it counts as away until it does", error)
        self._answering.clear()
        self._probe = asyncio.create_task(self._until_it_answers())
        now = asyncio.get_running_loop().time()
        running, self._running = self._running, set()
        for scope in running:
            scope.reschedule(now)

    async def _until_it_answers(self) -> None:
        began = time.monotonic()
        backoff = Backoff()
        try:
            while not await self._answered_or_refused():
                await backoff.wait()
        finally:
            self._probe = None
            self._answering.set()
        logger.info("Redis answers or refuses connections again after %.1f s", time.monotonic() - began)

    async def _answered_or_refused(self) -> bool:
        asked = time.monotonic()
        try:
            await self._drop_idle()
            await self._ask()
        except (RedisError, OSError):
            return time.monotonic() - asked < QUICK_SECONDS
        return True


class GuardedRedis(Redis):
    """A client whose commands go through a circuit, once it has one."""

    circuit: Circuit | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Raises RedisError, RedisUnresponsive among them."""
        send: Callable[..., Awaitable[Any]] = super().execute_command
        if self.circuit is None:
            return await send(*args, **options)
        return await self.circuit.run(lambda: send(*args, **options))
