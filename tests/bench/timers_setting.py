"""What the benchmarks of the timers library share: a server, a worker process, many callers."""

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from redis.asyncio import Redis
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerBroker, Worker

from tests.timers.support import cpu_seconds

ROOT = Path(__file__).resolve().parents[2]
QUEUE = "escalation"
TASK = "tocsin_escalation.work.tasks:fire_timer"
CALLERS = 50


@asynccontextmanager
async def server() -> AsyncIterator[Valkey]:
    """A Valkey with the settings of production (append-only file, synced each second)."""
    with tempfile.TemporaryDirectory() as folder:
        valkey = Valkey(Path(folder) / "valkey")
        await valkey.start()
        try:
            yield valkey
        finally:
            await valkey.stop()


@asynccontextmanager
async def clients() -> AsyncIterator[tuple[Valkey, TimerBroker, Any]]:
    """A server, a broker with the task, and a raw client of the same kind."""
    async with server() as valkey:
        broker = TimerBroker(valkey.url, QUEUE)
        raw = Redis.from_url(valkey.url, protocol=2)
        declare(broker, [])
        try:
            yield valkey, broker, raw
        finally:
            await broker.shutdown()
            await raw.aclose()


def declare(broker: TimerBroker, starts: list[tuple[int, float]]) -> None:
    """A task with one protobuf message, which writes down when it started."""

    @broker.task(TASK)
    async def fire(timer: Timestamp) -> None:
        starts.append((timer.seconds, time.time()))


def task_of(broker: TimerBroker) -> Any:
    """The task `declare` made, callable in the ways type checkers cannot follow through a look-up."""
    return broker.find_task(TASK)


def timer_id(number: int) -> str:
    """As long as the ids of a real owner: an escalation's id, generation and kind."""
    return f"esc-{number:012}:0001:lvl"


def after(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def rate(number: int, call: Callable[[int], Awaitable[Any]]) -> float:
    """Calls per second by CALLERS at once, each waiting for its answer before the next."""
    numbers = iter(range(number))

    async def caller() -> None:
        for which in numbers:
            await call(which)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return number / (time.perf_counter() - begun)


class WorkerProcess:
    """This module as a process: a worker (or, with `raw`, a bare XREADGROUP loop) that tells when each task started."""

    def __init__(self, url: str, *, raw: bool = False) -> None:
        self._arguments = json.dumps({"url": url, "raw": raw})
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.timers_setting", self._arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
            limit=1 << 26,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"working\n"

    def cpu_seconds(self) -> float:
        assert self._process is not None
        return cpu_seconds(self._process.pid)

    async def stop(self) -> list[tuple[int, float]]:
        """(what the task was called with, when it started by this host's clock), in order."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGTERM)
        starts: list[tuple[int, float]] = json.loads(await self._process.stdout.readline())
        await self._process.wait()
        return starts


async def _work(settings: dict[str, Any]) -> None:
    starts: list[tuple[int, float]] = []
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if settings["raw"]:
        running = asyncio.create_task(_raw_loop(settings["url"], starts))
    else:
        broker = TimerBroker(settings["url"], QUEUE)
        declare(broker, starts)
        running = asyncio.create_task(Worker(broker).run(stop))
    sys.stdout.write("working\n")
    sys.stdout.flush()
    await stop.wait()
    if settings["raw"]:
        running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    sys.stdout.write(json.dumps(starts) + "\n")


async def _raw_loop(url: str, starts: list[tuple[int, float]]) -> None:
    """The floor: what any consumer of a stream must do."""
    client: Any = Redis.from_url(url, protocol=2)
    await client.xgroup_create("raw", "workers", id="0", mkstream=True)
    while True:
        for _, entries in await client.xreadgroup("workers", "one", {"raw": ">"}, count=100, block=2000) or []:
            for id, fields in entries:
                starts.append((int(fields[b"n"]), time.time()))
                await client.xack("raw", "workers", id)


if __name__ == "__main__":
    uvloop.run(_work(json.loads(sys.argv[1])))
