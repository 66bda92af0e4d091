"""From due to the task's first line with a million timers pending, two worker processes and 200 timers a second.

The floor is the least a Redis queue can do: one task sleeps until the same moments and sends a raw XADD, another waits in
XREADGROUP. Beside it the cost of the two workers while nothing is due.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from taskiq.message import BrokerMessage
from tocsin_timers import Timer, TimerBroker, TimerSource

from tests.bench.report import report
from tests.bench.timers_setting import WorkerProcess, after, clients, task_of, timer_id
from tests.timers.support import cpu_seconds

PENDING = 1_000_000
RATE = 200
SECONDS = 15
IDLE_SECONDS = 20


async def main() -> None:
    async with clients() as (valkey, broker, raw):
        source, task = TimerSource(broker), task_of(broker)
        message = broker.encode(task, Timestamp(seconds=2_000_000_000), task_id="")
        begun = time.perf_counter()
        await source.arm(pending(message))
        filled = PENDING / (time.perf_counter() - begun)
        bare = await bare_filling(raw, message.message)
        report("timers filling with a million, encoded", filled, "1/s", bare, filled / bare)

        await quiet(raw)
        floor_process = WorkerProcess(valkey.url, raw=True)
        await floor_process.start()
        [floor_idle] = await idle([floor_process.cpu_seconds])
        floor_due = await send(lambda number, due: raw_timer(raw, number, due))
        floor_p50, floor_p99, _ = lateness(floor_due, await floor_process.stop())

        workers = [WorkerProcess(valkey.url), WorkerProcess(valkey.url)]
        for worker in workers:
            await worker.start()
        await asyncio.sleep(2)
        *shares, redis_share = await idle(
            [*(worker.cpu_seconds for worker in workers), lambda: cpu_seconds(valkey.process.pid)]
        )
        idle_share = sum(shares) / len(shares)
        report(
            "timers idle cost per worker, a million pending",
            idle_share,
            "% of a core",
            floor_idle,
            ratio(idle_share, floor_idle),
        )
        report(
            "timers idle cost of Redis, two workers",
            redis_share,
            "% of a core",
            floor_idle,
            ratio(redis_share, floor_idle),
        )

        due = await send(lambda number, at: our_timer(broker, source, number, at))
        starts = [start for worker in workers for start in await worker.stop()]
        p50, p99, most = lateness(due, starts)
        report("timers lateness p50, due to task, a million pending", p50, "ms", floor_p50, ratio(p50, floor_p50))
        report("timers lateness p99, due to task, a million pending", p99, "ms", floor_p99, ratio(p99, floor_p99))
        report("timers lateness max, due to task, a million pending", most, "ms", floor_p99, ratio(most, floor_p99))


def pending(message: BrokerMessage) -> Iterator[Timer]:
    start = after(3600)
    return (Timer(timer_id(n), start.replace(microsecond=n % 1_000_000), message) for n in range(PENDING))


async def bare_filling(raw: Any, value: bytes) -> float:
    """As many bytes as ours, in pipelines of a thousand ZADD and HSET each; a tenth of the number, then taken away."""
    begun = time.perf_counter()
    for start in range(0, PENDING // 10, 1000):
        pipeline = raw.pipeline(transaction=False)
        for n in range(start, start + 1000):
            pipeline.zadd("rawdue", {timer_id(n): n})
            pipeline.hset("rawdata", timer_id(n), value)
        await pipeline.execute()
    rate = PENDING / 10 / (time.perf_counter() - begun)
    await raw.delete("rawdue", "rawdata")
    return rate


async def quiet(raw: Any) -> None:
    """The append-only file is rewritten after so much growth: not what is measured here."""
    while True:
        about = await raw.info("persistence")
        if not about["aof_rewrite_in_progress"] and not about["aof_rewrite_scheduled"]:
            return
        await asyncio.sleep(0.2)


async def send(arm: Callable[[int, float], Coroutine[Any, Any, None]]) -> dict[int, float]:
    """RATE timers a second, each due in one to three seconds at a random moment; returns when after the last was due."""
    due: dict[int, float] = {}
    tasks: set[asyncio.Task[None]] = set()
    begun = time.monotonic()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
        due[number] = time.time() + random.uniform(1, 3)
        tasks.add(asyncio.create_task(arm(number, due[number])))
    await asyncio.gather(*tasks)
    await asyncio.sleep(4)
    return due


async def raw_timer(raw: Any, number: int, due: float) -> None:
    while (wait := due - time.time()) > 0:
        await asyncio.sleep(wait)
    await raw.xadd("raw", {b"n": number})


async def our_timer(broker: TimerBroker, source: TimerSource, number: int, due: float) -> None:
    kicker = task_of(broker).kicker().with_schedule_id(f"probe-{number}")
    await kicker.schedule_by_time(source, datetime.fromtimestamp(due, UTC), Timestamp(seconds=number))


async def idle(cpu: list[Callable[[], float]]) -> list[float]:
    """Percent of a core that each uses while nothing happens."""
    before = [read() for read in cpu]
    await asyncio.sleep(IDLE_SECONDS)
    return [(read() - start) / IDLE_SECONDS * 100 for read, start in zip(cpu, before, strict=True)]


def lateness(due: dict[int, float], starts: list[tuple[int, float]]) -> tuple[float, float, float]:
    """p50, p99 and most, in milliseconds; AssertionError if any is missing, early or doubled."""
    assert sorted(number for number, _ in starts) == sorted(due), "missing or doubled"
    late = sorted((at - due[number]) * 1000 for number, at in starts)
    assert late[0] > -0.01, f"{late[0]} ms: early"
    return late[len(late) // 2], late[int(len(late) * 0.99)], late[-1]


def ratio(value: float, floor: float) -> float:
    return value / floor if floor else 0.0
