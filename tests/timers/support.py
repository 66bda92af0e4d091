"""What the tests of the timers library share: real servers, real worker processes, and waiting for a condition."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from taskiq import AsyncBroker, TaskiqScheduler
from taskiq.cli.scheduler.run import SchedulerLoop
from taskiq.exceptions import TaskRejectedError
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import TimerBroker, Worker

ROOT = Path(__file__).resolve().parents[2]


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, limit: float = 30.0) -> None:
    """Wait for a condition; AssertionError naming `what` after `limit` seconds."""
    deadline = time.monotonic() + within(limit)
    while True:
        answer = condition()
        if isinstance(answer, bool):
            if answer:
                return
        elif await answer:
            return
        assert time.monotonic() < deadline, f"not within {limit} s: {what}"
        await asyncio.sleep(0.005)


def tasks(of: str = "tocsin_timers") -> set["asyncio.Task[Any]"]:
    """A library's tasks of this loop, which other tests' servers may share."""
    return {task for task in asyncio.all_tasks() if of in getattr(_code(task), "co_filename", "")}


def _code(task: "asyncio.Task[Any]") -> Any:
    coroutine = task.get_coro()
    return getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@asynccontextmanager
async def working(broker: TimerBroker, **options: Any) -> AsyncIterator[Worker]:
    """A worker of `broker` in this loop, stopped in good order at the end."""
    worker = Worker(broker, **options)
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        async with asyncio.timeout(within(30)):
            await task


async def settled(broker: TimerBroker) -> bool:
    """Nothing is sent, pending or being done."""
    figures = await broker.figures()
    return figures.waiting + figures.active + figures.delayed == 0


async def done(broker: TimerBroker, completed: int, failed: int = 0) -> bool:
    figures = await broker.figures()
    return (figures.completed, figures.failed) == (completed, failed)


async def buried(broker: TimerBroker) -> bool:
    """One message is among the dead letters."""
    return (await broker.figures()).dead == 1


async def filled(broker: TimerBroker) -> int:
    """How often one question whether Redis forgot had everything armed anew: 1 or 0."""
    times = 0

    async def arm_all() -> None:
        nonlocal times
        times += 1

    assert await broker.refill(arm_all)
    return times


def called(task: object) -> Any:
    """A task whose dependencies a type checker takes for arguments."""
    return task


class WorkerProcess:
    """`tests/timers/program.py` as a process: runs the tasks of a queue and records each act in another server."""

    def __init__(self, url: str, record_url: str, queue: str, **settings: Any) -> None:
        self._arguments = json.dumps({"url": url, "record_url": record_url, "queue": queue, **settings})
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return when the worker says that it works."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.timers.program", self._arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(within(20)):
            assert await self._process.stdout.readline() == b"working\n"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.returncode is not None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def wait(self, limit: float = 20.0) -> int:
        assert self._process is not None
        async with asyncio.timeout(within(limit)):
            return await self._process.wait()

    async def kill(self) -> None:
        if not self.ended:
            self.send(signal.SIGKILL)
        await self.wait()


@asynccontextmanager
async def worker_processes(workers: Sequence[WorkerProcess]) -> AsyncIterator[None]:
    """Start all of them, and leave none behind."""
    try:
        await asyncio.gather(*(worker.start() for worker in workers))
        yield
    finally:
        await asyncio.gather(*(worker.kill() for worker in workers if worker._process is not None))


class Record:
    """What was done, kept in a server no test harms: one act per id, and how often each id was delivered."""

    def __init__(self, url: str, name: str) -> None:
        self.redis = Redis.from_url(url, protocol=2)
        self._name = name

    async def acts(self) -> dict[str, float]:
        """The time of the one act of each id, by this host's clock."""
        found: Any = await self.redis.hgetall(f"{self._name}:acts")
        return {id.decode(): float(at) for id, at in found.items()}

    async def deliveries(self) -> dict[str, int]:
        found: Any = await self.redis.hgetall(f"{self._name}:deliveries")
        return {id.decode(): int(count) for id, count in found.items()}

    async def cancel(self, id: str) -> None:
        """From here on `id` has no effect, even if Redis still holds it."""
        await self.redis.sadd(f"{self._name}:cancelled", id)

    async def count(self) -> int:
        return int(await self.redis.hlen(f"{self._name}:acts"))

    async def close(self) -> None:
        await self.redis.aclose()


@asynccontextmanager
async def stock_schedulers(*schedulers: TaskiqScheduler) -> AsyncIterator[list[SchedulerLoop]]:
    """What `taskiq scheduler --update-interval 1` runs, in this loop, with what it has begun at its end."""
    loops = [SchedulerLoop(scheduler) for scheduler in schedulers]
    running = [asyncio.create_task(loop.run(update_interval=timedelta(seconds=1))) for loop in loops]
    try:
        yield loops
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        # Its reads and sends are tasks of their own, and would open connections after the test has closed them.
        await asyncio.gather(*tasks("taskiq/cli/scheduler"), return_exceptions=True)


@asynccontextmanager
async def server(folder: Path, **options: Any) -> AsyncIterator[Valkey]:
    valkey = Valkey(folder, **options)
    await valkey.start()
    try:
        yield valkey
    finally:
        await valkey.stop()


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time this process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lateness(acts: dict[str, float], due: dict[str, datetime]) -> str:
    """One printed line about a fault test: how late the acts were, in milliseconds."""
    late = sorted((at - due[id].timestamp()) * 1000 for id, at in acts.items())
    if not late:
        return "nothing acted"
    middle, most = late[len(late) // 2], late[min(len(late) - 1, int(len(late) * 0.99))]
    return f"{len(late)} acts: p50 {middle:.1f} ms, p99 {most:.1f} ms, max {late[-1]:.1f} ms late"


def noting(broker: AsyncBroker) -> list[str]:
    """What its task `note` was called with."""
    ran: list[str] = []

    @broker.task("note")
    async def note(what: str) -> None:
        if what == "bad":
            raise TaskRejectedError
        ran.append(what)

    return ran
