"""Schedules move from the sources of Taskiq's own Redis package to TimerSource, each fires once, and none is lost."""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from taskiq import ScheduledTask, ScheduleSource, TaskiqScheduler
from taskiq.cli.scheduler.run import SchedulerLoop
from taskiq.schedule_sources import LabelScheduleSource
from taskiq.serializers import JSONSerializer
from taskiq_redis import ListRedisScheduleSource, RedisScheduleSource
from tocsin_stack.valkey import Valkey
from tocsin_timers import MigrationIncomplete, TimerBroker, TimerSource
from tocsin_timers.migration import BATCH

from tests.timers.conftest import MakeBroker
from tests.timers.support import ROOT, in_seconds, settled, stock_schedulers, until, working

pytestmark = pytest.mark.filterwarnings("ignore:RedisScheduleSource is deprecated:DeprecationWarning")

MANY = 3000
HOUR = 3600
LEAVE = timedelta(minutes=2)

Stock = ListRedisScheduleSource | RedisScheduleSource
Declared = tuple[TimerBroker, Counter[str]]


@pytest.fixture
async def make_stock(valkey: Valkey, queue: str) -> AsyncIterator[Callable[..., Any]]:
    """Stock sources under a prefix of this test's own."""
    made: list[Stock] = []

    def make(kind: type[Stock] = ListRedisScheduleSource, prefix: str = f"old:{queue}", **options: Any) -> Stock:
        made.append(kind(valkey.url, prefix=prefix, **options))
        return made[-1]

    yield make
    for source in made:
        await (
            source._connection_pool if isinstance(source, ListRedisScheduleSource) else source.connection_pool
        ).disconnect()


@pytest.fixture
async def raw(valkey: Valkey) -> AsyncIterator[Redis]:
    client = Redis.from_url(valkey.url, protocol=2)
    yield client
    await client.aclose()


def declared(broker: TimerBroker) -> Declared:
    ran: Counter[str] = Counter()

    @broker.task("note")
    async def note(what: str, times: int = 1) -> None:
        ran[what] += times

    return broker, ran


def scheduled(id: str, **when: Any) -> ScheduledTask:
    return ScheduledTask(task_name="note", labels={"kind": "old"}, args=[id], kwargs={}, schedule_id=id, **when)


async def fill(stock: Stock, due: dict[str, datetime]) -> None:
    """What `add_schedule` of the stock source writes, a thousand at a time: one by one takes most of a minute here."""
    pool, serializer = (
        (stock._connection_pool, stock._serializer)
        if isinstance(stock, ListRedisScheduleSource)
        else (stock.connection_pool, stock.serializer)
    )
    async with Redis(connection_pool=pool) as redis:
        pipeline = redis.pipeline(transaction=False)
        for number, (id, time) in enumerate(due.items()):
            schedule = scheduled(id, time=time)
            if number < 3:
                await stock.add_schedule(schedule)
                continue
            raw = serializer.dumpb(schedule.model_dump(mode="json"))
            if isinstance(stock, ListRedisScheduleSource):
                pipeline.set(stock._get_data_key(id), raw)
                pipeline.rpush(stock._get_time_key(time), id)
            else:
                pipeline.set(f"{stock.prefix}:{id}", raw)
            if number % 1000 == 999:
                await pipeline.execute()
        await pipeline.execute()


async def keys(raw: Redis, queue: str) -> list[str]:
    """What the stock source still holds in Redis."""
    return sorted([key.decode() async for key in raw.scan_iter(f"old:{queue}:*", count=1000)])


class Held(TaskiqScheduler):
    """Sends what is due once it may."""

    may = False

    async def on_ready(self, source: ScheduleSource, task: ScheduledTask) -> None:
        await until(lambda: self.may, "it may send")
        await super().on_ready(source, task)


def read_by(loop: SchedulerLoop) -> set[str]:
    """The ids that a stock scheduler holds in memory."""
    return {task.schedule_id for _, tasks in loop.scheduled_tasks for task in tasks}


@pytest.mark.parametrize("kind", [ListRedisScheduleSource, RedisScheduleSource])
@pytest.mark.parametrize("options", [{}, {"serializer": JSONSerializer()}], ids=["pickle", "json"])
async def test_thousands_move_and_each_that_is_due_fires_once(
    make_broker: MakeBroker, make_stock: Any, raw: Redis, queue: str, kind: type[Stock], options: dict[str, Any]
) -> None:
    stock = make_stock(kind, **options)
    broker, ran = declared(make_broker(shards=3))
    due = {f"t{n}": in_seconds(-HOUR + n if n < 200 else HOUR + n) for n in range(MANY)}
    due["naive"] = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=5)
    await fill(stock, due)
    source = TimerSource(broker).with_migrate_from(stock)
    async with working(broker):
        await source.startup()
        await until(lambda: ran.total() == 201, "what is past its time has run")
        assert await keys(raw, queue) == []
        assert (await broker.figures()).delayed == MANY - 200
        again = await source.migrate()
    assert (again.moved, again.kept, again.refused) == (0, 0, {})
    assert ran == Counter({f"t{n}": 1 for n in range(200)} | {"naive": 1})
    # A moved schedule is a timer as any other: by its id, at its time.
    assert await source.delete_schedule("t2999") is True


@pytest.mark.parametrize("kind", [ListRedisScheduleSource, RedisScheduleSource])
async def test_what_is_no_point_in_time_is_refused_by_name_and_stays(
    broker: TimerBroker, make_stock: Any, raw: Redis, queue: str, kind: type[Stock]
) -> None:
    stock = make_stock(kind)
    declared(broker)
    await stock.add_schedule(scheduled("nightly", cron="0 3 * * *"))
    await stock.add_schedule(scheduled("often", interval=30))
    await stock.add_schedule(scheduled("~taken", time=in_seconds(HOUR)))
    base = f"old:{queue}" + (":data" if kind is ListRedisScheduleSource else "")
    await raw.set(f"{base}:odd", b"\x80 no pickle")
    await raw.copy(f"{base}:nightly", f"{base}:session:7")
    before = await keys(raw, queue)
    await stock.add_schedule(scheduled("fine", time=in_seconds(HOUR)))
    with pytest.raises(MigrationIncomplete) as caught:
        await TimerSource(broker).with_migrate_from(stock).startup()
    assert caught.value.moved == 1
    reasons = caught.value.refused
    assert set(reasons) == {"nightly", "often", "~taken", "odd", "session:7"}
    assert "not cron schedules" in reasons["nightly"]
    assert "not interval schedules" in reasons["often"]
    assert reasons["odd"].startswith("unreadable: ")
    assert "nightly" in reasons["session:7"]
    assert "1 schedules moved, 5 stay" in str(caught.value)
    assert await keys(raw, queue) == before
    assert (await broker.figures()).delayed == 1
    # And the stock source still works.
    await raw.delete(f"{base}:odd", f"{base}:session:7")
    assert {schedule.schedule_id for schedule in await stock.get_schedules()} >= {"nightly", "often"}


async def test_two_processes_that_migrate_at_once_fire_nothing_twice(
    make_broker: MakeBroker, make_stock: Any, raw: Redis, queue: str
) -> None:
    """Half of it is due while both of them still read: what the first has armed, fired and removed, the second offers again."""
    await fill(make_stock(), {f"t{n}": in_seconds(-1 if n % 2 else HOUR) for n in range(MANY)})
    broker, ran = declared(make_broker())
    other, _ = declared(make_broker())
    async with working(broker):
        moved = await asyncio.gather(
            *(TimerSource(one).with_migrate_from(make_stock()).migrate() for one in (broker, other, broker))
        )
        await until(lambda: ran.total() >= MANY // 2, "what was due has run")
        await until(lambda: idle(broker), "nothing is in a stream")
    assert sum(one.moved for one in moved) == MANY
    assert set(ran.values()) == {1}
    assert (len(ran), (await broker.figures()).delayed) == (MANY // 2, MANY // 2)
    assert await keys(raw, queue) == []


async def idle(broker: TimerBroker) -> bool:
    figures = await broker.figures()
    return figures.waiting + figures.active + figures.overdue == 0


@pytest.mark.parametrize("die_at", ["armed", "removed"])
async def test_a_process_killed_in_the_middle_loses_nothing_and_fires_nothing_twice(
    broker: TimerBroker, make_stock: Any, valkey: Valkey, raw: Redis, queue: str, die_at: str
) -> None:
    number = 2 * BATCH + 7
    await fill(make_stock(), {f"t{n}": in_seconds(-1) for n in range(number)})
    declared_broker, ran = declared(broker)
    settings = json.dumps({"url": valkey.url, "queue": queue, "prefix": f"old:{queue}", "die_at": die_at})
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.timers.migrating", settings, cwd=ROOT)
    async with asyncio.timeout(30):
        assert await process.wait() == -signal.SIGKILL
    async with working(declared_broker):
        # The dead one's batch fires before another process takes up the rest.
        await until(lambda: ran.total() == BATCH, "what it had armed has run")
        done = await TimerSource(broker).with_migrate_from(make_stock()).migrate()
        await until(lambda: ran.total() >= number, "the rest has run")
        await until(lambda: settled(broker), "nothing is left")
    assert done.moved == number - BATCH
    assert (len(ran), set(ran.values())) == (number, {1})
    assert await keys(raw, queue) == []


@pytest.mark.parametrize("kind", [ListRedisScheduleSource, RedisScheduleSource])
async def test_beside_a_running_stock_scheduler_every_schedule_has_one_owner(
    broker: TimerBroker, make_stock: Any, raw: Redis, queue: str, kind: type[Stock]
) -> None:
    """It has read what is due soon and sends that, wherever it went since: `leave` leaves that to it.

    It reads the current minute's list and, as the prefix has no colon, those before: half of these are due by now, in whichever
    minute that is, and it takes up the rest with its next update.
    """
    prefix = f"old-{queue}"
    stock = make_stock(kind, prefix)
    await broker.startup()
    _, ran = declared(broker)
    soon = {f"s{n}": in_seconds((n - 25) / 100) for n in range(50)}
    await fill(stock, soon | {f"f{n}": in_seconds(300 + n) for n in range(50)})
    source = TimerSource(broker).with_migrate_from(make_stock(kind, prefix), leave=LEAVE)
    scheduler = Held(broker, [stock])
    async with working(broker), stock_schedulers(scheduler) as [loop]:
        await until(lambda: len(read_by(loop) & soon.keys()) >= 25, "the stock scheduler has read them")
        first = await source.migrate()
        assert (first.moved, first.waiting) == (50, 50)
        scheduler.may = True
        await until(lambda: ran.total() >= 50, "the stock scheduler sent its own")
        await until(lambda: idle(broker), "nothing is in a stream")
        await until(lambda: emptied(raw, prefix), "the stock scheduler has removed what it sent")
        assert (await source.migrate()).moved == 0
    assert ran == Counter(dict.fromkeys(soon, 1))
    assert (await broker.figures()).delayed == 50


async def emptied(raw: Redis, prefix: str) -> bool:
    return [key async for key in raw.scan_iter(f"{prefix}:*", count=1000)] == []


@pytest.mark.parametrize("kind", [ListRedisScheduleSource, RedisScheduleSource])
async def test_what_a_running_stock_scheduler_never_sends_is_not_left_to_it(
    broker: TimerBroker, make_stock: Any, kind: type[Stock]
) -> None:
    """A minute's list that it missed, with a prefix such as this one; or a send that failed, which it does not repeat."""
    stock = make_stock(kind)
    _, ran = declared(broker)
    away = {"missed": -2 * LEAVE, "just now": -LEAVE / 2, "soon": LEAVE / 2, "far": 2 * LEAVE}
    await fill(stock, {id: in_seconds(each.total_seconds()) for id, each in away.items()})
    if kind is ListRedisScheduleSource:
        assert "missed" not in {schedule.schedule_id for schedule in await stock.get_schedules()}
    done = await TimerSource(broker).with_migrate_from(stock, leave=LEAVE).migrate()
    assert (done.moved, done.waiting) == (2, 2)
    async with working(broker):
        await until(lambda: ran.total() == 1, "what is due has run")
        await until(lambda: idle(broker), "nothing is in a stream")
    assert ran == Counter({"missed": 1})


async def test_when_the_stock_scheduler_has_stopped_what_was_left_to_it_moves(
    broker: TimerBroker, make_stock: Any, raw: Redis, queue: str
) -> None:
    stock = make_stock()
    _, ran = declared(broker)
    await fill(stock, {"a": in_seconds(-1), "b": in_seconds(1), "c": in_seconds(HOUR)})
    assert (await TimerSource(broker).with_migrate_from(stock, leave=LEAVE).migrate()).waiting == 2
    assert (await TimerSource(broker).with_migrate_from(stock).migrate()).moved == 2
    async with working(broker):
        await until(lambda: ran.total() == 2, "both ran")
    assert ran == Counter("ab")
    assert await keys(raw, queue) == []


async def test_what_is_armed_here_is_kept_and_what_the_old_side_moves_later_moves(
    broker: TimerBroker, make_stock: Any
) -> None:
    stock = make_stock()
    declared(broker)
    source = TimerSource(broker).with_migrate_from(stock)
    await source.add_schedule(scheduled("mine", time=in_seconds(2 * HOUR)))
    await fill(stock, {"mine": in_seconds(-1), "theirs": in_seconds(2 * HOUR)})
    first = await source.migrate()
    assert (first.moved, first.kept) == (1, 1)
    assert (await broker.figures()).overdue == 0
    # An old process, still running, moves what it had armed before the migration: that is the newer word.
    await fill(stock, {"theirs": in_seconds(-1)})
    assert (await source.migrate()).moved == 1
    figures = await broker.figures()
    assert (figures.delayed, figures.overdue) == (2, 1)


async def test_a_schedule_that_is_replaced_while_it_is_moved_is_not_removed(
    broker: TimerBroker, make_stock: Any, raw: Redis, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = make_stock()
    declared(broker)
    source = TimerSource(broker).with_migrate_from(stock)
    await fill(stock, {"t": in_seconds(HOUR)})
    adopt = source._adopt

    async def slow(*arguments: Any) -> dict[str, str]:
        answers = await adopt(*arguments)
        await fill(stock, {"t": in_seconds(-1)})
        return answers

    with monkeypatch.context() as patch:
        patch.setattr(source, "_adopt", slow)
        await source.migrate()
    assert f"old:{queue}:data:t" in await keys(raw, queue)
    assert (await source.migrate()).moved == 1
    assert (await broker.figures()).overdue == 1


async def test_a_prefix_is_no_pattern(broker: TimerBroker, make_stock: Any, queue: str) -> None:
    declared(broker)
    await fill(make_stock(prefix=f"ab:{queue}"), {"other": in_seconds(HOUR)})
    await fill(make_stock(prefix=f"[ab]?:{queue}"), {"own": in_seconds(HOUR)})
    assert (await TimerSource(broker).with_migrate_from(make_stock(prefix=f"[a]*:{queue}")).migrate()).moved == 0
    assert (await TimerSource(broker).with_migrate_from(make_stock(prefix=f"[ab]?:{queue}")).migrate()).moved == 1


async def test_only_the_two_sources_are_taken(broker: TimerBroker) -> None:
    with pytest.raises(TypeError, match="cannot migrate from LabelScheduleSource"):
        TimerSource(broker).with_migrate_from(LabelScheduleSource(broker))
    with pytest.raises(RuntimeError, match="with_migrate_from"):
        await TimerSource(broker).migrate()
