"""Owners of timers for the fault tests: what they armed, what they cancelled, and the verdict on what acted."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.program import declare
from tests.timers.support import Record, WorkerProcess, in_seconds, lateness, settled, until


class Owner:
    """Keeps what it armed, cancels some of it, and arms again what Redis forgot, every 100 ms."""

    def __init__(self, url: str, safe_url: str, queue: str, *, skew: timedelta = timedelta(0), **options: Any) -> None:
        self.broker = TimerBroker(url, queue, command_timeout=0.5, **options)
        declare(self.broker, None, queue)
        self.source = TimerSource(self.broker, clock=lambda: datetime.now(UTC) + skew)
        self.record = Record(safe_url, queue)
        self.due: dict[str, datetime] = {}
        self.cancelled: set[str] = set()
        self._skew = skew
        self._task = self.broker.find_task("act")
        self._stop = asyncio.Event()
        self._again = False

    async def arm(self, id: str, seconds: float) -> None:
        self.due[id] = in_seconds(seconds)
        await self._send([id])

    async def arm_many(self, timers: dict[str, float]) -> None:
        self.due |= {id: in_seconds(seconds) for id, seconds in timers.items()}
        await self._send(list(timers))

    async def cancel(self, id: str) -> None:
        """As an owner with a database does: first its own record, then Redis, whether that answers or not."""
        self.cancelled.add(id)
        await self.record.cancel(id)
        try:
            await self.source.delete_schedule(id)
        except RedisError:
            return

    async def _send(self, ids: list[str]) -> None:
        assert self._task is not None
        try:
            await self.source.arm(self.source.timer(id, self.due[id] + self._skew, self._task, id) for id in ids)
        except RedisError:
            # Its own record holds it: `watch` arms it when Redis is back.
            self._again = True

    async def _arm_all(self) -> None:
        self._again = False
        acted = await self.record.acts()
        await self._send([id for id in self.due if id not in acted and id not in self.cancelled])

    async def watch(self) -> None:
        while not self._stop.is_set():
            try:
                await self.broker.refill(self._arm_all)
                if self._again:
                    await self._arm_all()
            except RedisError:
                self._again = True
            try:
                async with asyncio.timeout(0.1):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def all_acted(self, limit: float = 20.0) -> None:
        """Every timer that was not cancelled acts, and nothing stays behind."""

        async def acted() -> bool:
            return len(self.due.keys() - self.cancelled - (await self.record.acts()).keys()) == 0

        await until(acted, "every timer acts", limit)
        await until(lambda: settled(self.broker), "nothing stays behind", limit)

    async def verdict(self, what: str, *, deliveries: int | None = None) -> None:
        """No act that was not due; print the lateness; `deliveries`: how many there were at most per timer."""
        acts = await self.record.acts()
        assert acts.keys() - self.due.keys() == set()
        early = {id: at - self.due[id].timestamp() for id, at in acts.items() if at < self.due[id].timestamp() - 0.002}
        assert not early, f"acted before due: {early}"
        counts = await self.record.deliveries()
        repeated = sum(count - 1 for count in counts.values())
        print(f"\n{what}: {lateness(acts, self.due)}, {repeated} deliveries fenced off")
        if deliveries is not None:
            assert max(counts.values()) <= deliveries, {id: n for id, n in counts.items() if n > deliveries}

    async def close(self) -> None:
        self._stop.set()
        await self.record.close()
        await self.broker.shutdown()


@asynccontextmanager
async def owner(valkey: Valkey, safe: Valkey, queue: str, **options: Any) -> AsyncIterator[Owner]:
    owning = Owner(valkey.url, safe.url, queue, **options)
    watching = asyncio.create_task(owning.watch())
    try:
        yield owning
    finally:
        owning._stop.set()
        await watching
        await owning.close()


def workers(valkey: Valkey, safe: Valkey, queue: str, number: int, **settings: Any) -> list[WorkerProcess]:
    return [WorkerProcess(valkey.url, safe.url, queue, **settings) for _ in range(number)]


async def stream_of_timers(owner: Owner, seconds: float, per_second: int, longest: float) -> None:
    """Arm and cancel (one in five) at a steady rate, during any fault."""
    begun = time.monotonic()
    for number in range(int(seconds * per_second)):
        ahead = begun + number / per_second - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        await owner.arm(f"t{number}", random.uniform(0.3, longest))
        if number % 5 == 0:
            await owner.cancel(f"t{number}")


async def started(owner: Owner, number: int) -> bool:
    return await owner.record.count() >= number
