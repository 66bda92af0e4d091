"""The README's row of schedules: when the stock source and scheduler fire, how often, and what they do after a failure."""

import asyncio
import itertools
import math
from collections import Counter
from datetime import UTC, datetime
from operator import ne
from typing import Any

import pytest
from taskiq import InMemoryBroker, ScheduledTask, ScheduleSource, TaskiqScheduler
from taskiq.cli.scheduler.run import SchedulerLoop
from taskiq.message import BrokerMessage
from taskiq_redis import ListRedisScheduleSource
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import in_seconds, noting, stock_schedulers, until, working


class Told(InMemoryBroker):
    """Where a stock scheduler sends to. The first `failures` sends fail."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.sends = 0
        self.at: dict[str, list[float]] = {}

    async def kick(self, message: BrokerMessage) -> None:
        self.sends += 1
        if self.sends <= self.failures:
            raise ConnectionError("the queue is away for a moment")
        self.at.setdefault(self.formatter.loads(message.message).args[0], []).append(datetime.now(UTC).timestamp())


def scheduled(id: str, due: datetime) -> ScheduledTask:
    return ScheduledTask(task_name="note", labels={}, args=[id], kwargs={}, schedule_id=id, time=due)


class OneList(ListRedisScheduleSource):
    """Keeps all schedules in one list and not in one for each minute, so that the second of the minute does not matter: with a
    colon in its prefix the stock source never reads the list of a minute that has passed."""

    def _get_time_key(self, time: datetime) -> str:
        return f"{self._prefix}:time:all"


class Together(TaskiqScheduler):
    """Sends once all schedulers have read: a slow one would find nothing left."""

    all_have_read = False

    async def on_ready(self, source: ScheduleSource, task: ScheduledTask) -> None:
        await until(lambda: self.all_have_read, "all have read")
        await super().on_ready(source, task)


def updated(loop: SchedulerLoop) -> datetime | None:
    """When it began to read last; None until it has read for the first time."""
    return loop.scheduled_tasks_updated_at


async def fired(
    source: ScheduleSource, told: Told, due: dict[str, datetime], sends: int, schedulers: int = 1
) -> dict[str, list[float]]:
    """When that many stock schedulers sent each, two updates after the last of `sends`, or after as many failures."""
    for id, when in due.items():
        await source.add_schedule(scheduled(id, when))
    together = Together(told, [source])
    async with stock_schedulers(*[together] * schedulers) as loops:
        await until(lambda: all(map(updated, loops)), "all have read")
        together.all_have_read = True
        await until(lambda: told.sends >= sends, "each is sent as often as expected")
        for _ in range(2):
            before = [*map(updated, loops)]
            await until(lambda: all(map(ne, before, map(updated, loops))), "they go on")  # noqa: B023 - waited for here
    return told.at


@pytest.fixture
async def stock_fired(valkey: Valkey, queue: str) -> list[tuple[dict[str, datetime], dict[str, list[float]]]]:
    """What stock schedulers make of nine timers: one alone, two of them, and one whose first nine sends fail."""
    due = {f"t{tenth}": in_seconds(0.1 + tenth / 8) for tenth in range(9)}
    sources = [OneList(valkey.url, prefix=f"{queue}:{number}") for number in range(3)]
    alone, by_two, failing = sources
    seen = await asyncio.gather(
        fired(alone, Told(), due, 9),
        fired(by_two, Told(), due, 18, schedulers=2),
        fired(failing, Told(failures=9), due, 9),
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
    within = {id: when.timestamp() for id, when in due.items() if 400_000 < when.microsecond < 800_000}
    assert within
    for id, time in within.items():
        # The wall clock may be set right by a little between the loop's look at it and its tick.
        assert min(alone[id]) > math.ceil(time) - 0.05, "earlier than the next whole second: our promotion may go"
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
