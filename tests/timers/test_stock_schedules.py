"""The README's row of schedules: when the stock source and scheduler fire, how often, and what they do after a failure."""

import asyncio
import itertools
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from taskiq import InMemoryBroker, ScheduledTask, ScheduleSource, TaskiqScheduler
from taskiq.cli.scheduler.run import SchedulerLoop
from taskiq.message import BrokerMessage
from taskiq_redis import ListRedisScheduleSource
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import in_seconds, noting, until, working


class Told(InMemoryBroker):
    """Where a stock scheduler sends to. The first `failures` sends fail."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.at: dict[str, list[float]] = {}

    async def kick(self, message: BrokerMessage) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the queue is away for a moment")
        self.at.setdefault(self.formatter.loads(message.message).args[0], []).append(datetime.now(UTC).timestamp())


def scheduled(id: str, due: datetime) -> ScheduledTask:
    return ScheduledTask(task_name="note", labels={}, args=[id], kwargs={}, schedule_id=id, time=due)


async def fired(
    source: ScheduleSource, told: Told, due: dict[str, datetime], schedulers: int
) -> dict[str, list[float]]:
    """When the stock schedulers sent each, two ticks after the last was due."""
    for id, when in due.items():
        await source.add_schedule(scheduled(id, when))
    loops = [
        asyncio.create_task(SchedulerLoop(TaskiqScheduler(told, [source])).run(update_interval=timedelta(seconds=1)))
        for _ in range(schedulers)
    ]
    await asyncio.sleep(max(due.values()).timestamp() - datetime.now(UTC).timestamp() + 2.1)
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    return told.at


@pytest.fixture
async def stock_fired(valkey: Valkey, queue: str) -> list[tuple[dict[str, datetime], dict[str, list[float]]]]:
    """What stock schedulers make of nine timers: one alone, two of them, and one whose first nine sends fail."""
    due = {f"t{tenth}": in_seconds(0.1 + tenth / 8) for tenth in range(9)}
    runs = [(Told(), 1), (Told(), 2), (Told(failures=9), 1)]
    sources = [ListRedisScheduleSource(valkey.url, prefix=f"{queue}:{number}") for number in range(len(runs))]
    seen = await asyncio.gather(
        *(fired(source, told, due, number) for source, (told, number) in zip(sources, runs, strict=True))
    )
    for source in sources:
        await source._connection_pool.disconnect()
    return [(due, at) for at in seen]


async def test_stock_schedules_fire_on_whole_seconds_twice_with_two_and_never_after_a_failure(stock_fired: Any) -> None:
    """Explicit, as one run of three seconds shows all of it: schedule sources fire on whole seconds, with one scheduler
    only; a failed send is never repeated (taskiq#244, #626)."""
    (due, alone), (_, by_two), (_, after_failure) = stock_fired
    assert alone.keys() == due.keys()
    # A tick comes late on a busy machine, and takes what is due since its whole second with it.
    within = {id: when.timestamp() for id, when in due.items() if when.microsecond > 600_000}
    assert within
    for id, time in within.items():
        assert min(alone[id]) >= math.ceil(time), "earlier than the next whole second: our promotion may go"
    assert {len(at) for at in by_two.values()} == {2}, "two schedulers fire once: our promotion may go"
    assert after_failure == {}, "a failed send is repeated: our promotion may go"


async def test_our_timers_fire_once_with_two_workers(make_broker: MakeBroker) -> None:
    one, two = make_broker(), make_broker()
    ran = [*map(noting, (one, two))]
    async with working(one), working(two):
        source = TimerSource(one)
        for number in range(50):
            await source.add_schedule(scheduled(f"t{number}", in_seconds(number / 100)))
        await until(lambda: len(ran[0]) + len(ran[1]) >= 50, "all fire")
        await until(lambda: quiet(one), "nothing is left that could fire again")
    assert Counter(itertools.chain(*ran)) == {f"t{number}": 1 for number in range(50)}


async def quiet(broker: TimerBroker) -> bool:
    figures = await broker.figures()
    return figures.waiting + figures.active + figures.delayed == 0
