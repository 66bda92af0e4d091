"""The brokers and the schedule source of taskiq-redis beside ours: same run, same server, same task, in this one process.

Each line's floor is the raw client's, so lines of one figure can be compared with each other. What the stock parts lose or do
twice is no figure: tests/timers/test_stock_schedules.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from taskiq import AsyncBroker, InMemoryBroker, ScheduledTask, TaskiqScheduler
from taskiq.cli.scheduler.run import SchedulerLoop
from taskiq.receiver import Receiver
from taskiq_redis import ListQueueBroker, ListRedisScheduleSource, RedisStreamBroker
from tocsin_timers import TimerBroker, TimerSource, Worker

from tests.bench.report import report
from tests.bench.timers_setting import after, clients, rate, timer_id

NUMBER = 5_000
CONCURRENCY = 50
TIMED = 400
SPREAD_SECONDS = 8.0


async def main() -> None:
    async with clients() as (valkey, _, raw):
        brokers: dict[str, AsyncBroker] = {
            "ours": TimerBroker(valkey.url, "beside"),
            "stock RedisStreamBroker": RedisStreamBroker(valkey.url, queue_name="stock-stream", consumer_id="0"),
            # Without this a worker of it that has nothing to do for five seconds ends (taskiq#658).
            "stock ListQueueBroker": ListQueueBroker(valkey.url, queue_name="stock-list", socket_timeout=None),
        }
        sends = await rate(NUMBER, lambda n: raw.xadd("raw", {b"d": b"x" * 72}))
        reads = await bare_reads(raw)
        for name, broker in brokers.items():
            await sending_and_running(name, broker, sends, reads)

        stock = ListRedisScheduleSource(valkey.url)
        ours = TimerSource(brokers["ours"])  # type: ignore[arg-type]
        moment = after(3600)
        arms = await rate(NUMBER, lambda n: raw.zadd("rawdue", {timer_id(n): n}))
        cancels = await rate(NUMBER, lambda n: raw.zrem("rawdue", timer_id(n)))
        for name, source in (("ours", ours), ("stock ListRedisScheduleSource", stock)):
            armed = await rate(NUMBER, lambda n, source=source: source.add_schedule(scheduled(n, moment)))  # type: ignore[misc]
            report(f"timers beside stock: arm, 50 callers: {name}", armed, "1/s", arms, armed / arms)
            gone = await rate(NUMBER, lambda n, source=source: source.delete_schedule(timer_id(n)))  # type: ignore[misc]
            report(f"timers beside stock: cancel, 50 callers: {name}", gone, "1/s", cancels, gone / cancels)
        await lateness(brokers["ours"], ours, stock)
        await stock._connection_pool.disconnect()
        for broker in brokers.values():
            await broker.shutdown()


async def sending_and_running(name: str, broker: AsyncBroker, sends: float, reads: float) -> None:
    ran: list[int] = []

    @broker.task("note")
    async def note(number: int) -> None:
        ran.append(number)

    broker.is_worker_process = True
    await broker.startup()
    sent = await rate(NUMBER, note.kiq)
    report(f"timers beside stock: send, 50 callers: {name}", sent, "1/s", sends, sent / sends)
    begun = time.perf_counter()
    async with running(broker):
        await until(lambda: len(ran) == NUMBER)
        done = NUMBER / (time.perf_counter() - begun)
    report(f"timers beside stock: tasks run by one process: {name}", done, "1/s", reads, done / reads)


async def bare_reads(raw: Any) -> float:
    """Entries per second of a loop of XREADGROUP(100) and an XACK for each."""
    await raw.xgroup_create("raw", "workers", id="0")
    begun, read = time.perf_counter(), 0
    while read < NUMBER:
        for _, entries in await raw.xreadgroup("workers", "one", {"raw": ">"}, count=100):
            for id, _ in entries:
                await raw.xack("raw", "workers", id)
                read += 1
    return NUMBER / (time.perf_counter() - begun)


async def lateness(broker: AsyncBroker, ours: TimerSource, stock: ListRedisScheduleSource) -> None:
    """From due to the task's first line (ours), and to the scheduler's send (stock; a worker comes on top of that).

    The floor is asyncio's own: a sleep until the same moments.
    """
    due = {n: after(2 + SPREAD_SECONDS * n / TIMED) for n in range(TIMED)}
    floor = await seen(due, sleeping(due))
    told: dict[int, float] = {}

    @broker.task("timed")
    async def timed(number: int) -> None:
        told[number] = time.time()

    due = {n: after(2 + SPREAD_SECONDS * n / TIMED) for n in range(TIMED)}
    for n, moment in due.items():
        await ours.add_schedule(scheduled(n, moment, "timed"))
    async with running(broker):
        await until(lambda: len(told) == TIMED)
    await compare("ours", late(due, told), floor)

    recorder = Recorder()
    due = {n: after(2 + SPREAD_SECONDS * n / TIMED) for n in range(TIMED)}
    for n, moment in due.items():
        await stock.add_schedule(scheduled(n, moment, "timed"))
    # Its best: the default of a minute makes timers half a minute late.
    loop = SchedulerLoop(TaskiqScheduler(recorder, [stock]))
    scheduler = asyncio.create_task(loop.run(update_interval=timedelta(seconds=1)))
    await until(lambda: len(recorder.told) == TIMED)
    scheduler.cancel()
    await asyncio.gather(scheduler, return_exceptions=True)
    await compare("stock ListRedisScheduleSource", late(due, recorder.told), floor)


class Recorder(InMemoryBroker):
    """Where the stock scheduler sends to."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[int, float] = {}

    async def kick(self, message: Any) -> None:
        self.told[self.formatter.loads(message.message).args[0]] = time.time()


async def compare(name: str, value: list[float], floor: list[float]) -> None:
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        mine, least = (times[int(len(times) * share)] for times in (value, floor))
        report(f"timers beside stock: lateness {label}: {name}", mine, "ms", least, mine / least if least else 0.0)


def late(due: dict[int, datetime], told: dict[int, float]) -> list[float]:
    return sorted((told[n] - moment.timestamp()) * 1000 for n, moment in due.items())


async def seen(due: dict[int, datetime], moments: AsyncIterator[int]) -> list[float]:
    told = {n: time.time() async for n in moments}
    return late(due, told)


async def sleeping(due: dict[int, datetime]) -> AsyncIterator[int]:
    for n, moment in due.items():
        await asyncio.sleep(max(0.0, moment.timestamp() - time.time()))
        yield n


def scheduled(number: int, due: datetime, task: str = "note") -> ScheduledTask:
    return ScheduledTask(task_name=task, labels={}, args=[number], kwargs={}, schedule_id=timer_id(number), time=due)


@asynccontextmanager
async def running(broker: AsyncBroker) -> AsyncIterator[None]:
    """Our worker for our broker. For the stock ones Taskiq's receiver does each message, fifty at once.

    Not its `listen`: told to finish while a stock broker reads, it may stay for ever.
    """
    stop = asyncio.Event()
    if isinstance(broker, TimerBroker):
        task = asyncio.create_task(Worker(broker).run(stop))
    else:
        task = asyncio.create_task(receive(broker))
    try:
        yield
    finally:
        stop.set()
        while not task.done():
            if not isinstance(broker, TimerBroker):
                task.cancel()
            await asyncio.wait({task}, timeout=0.05)


async def receive(broker: AsyncBroker) -> None:
    receiver = Receiver(broker, run_startup=False, max_async_tasks=CONCURRENCY)
    room = asyncio.Semaphore(CONCURRENCY)
    tasks: set[asyncio.Task[None]] = set()

    def done(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        room.release()

    async for message in broker.listen():
        await room.acquire()
        task = asyncio.create_task(receiver.callback(message))
        tasks.add(task)
        task.add_done_callback(done)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)
