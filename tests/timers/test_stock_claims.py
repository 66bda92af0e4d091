"""The README's table "What the stock parts do, and this does not", row by row, against the real taskiq-redis.

Each promise is put to both sides. The stock side must break it (a strict expected failure): when a newer package keeps it,
the test fails and says that our part may go. The row of schedules is in `test_stock_schedules.py`. One row is not tested: whether
a stock worker without uvloop ends on SIGTERM depends on the moment (a read that is cancelled may swallow it).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError
from taskiq import AckableMessage, AsyncBroker
from taskiq.receiver import Receiver
from taskiq_redis import (
    ListQueueBroker,
    RedisStreamBroker,
    RedisStreamClusterBroker,
    RedisStreamSentinelBroker,
)
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import TimerBroker
from tocsin_timers.connections import Connections

from tests.timers.conftest import MakeBroker
from tests.timers.support import noting, server, until, working

NEVER = 0.5
"""Seconds after which a stock part is taken never to do what it did not do at once. A slow machine makes it no more able."""
HOUR_MS = 3_600_000
Broker = RedisStreamBroker | ListQueueBroker | TimerBroker
Make = Callable[..., Awaitable[Broker]]


def stock(kind: object, row: str, *also: type[Exception]) -> Any:
    """A stock part that must break the promise."""
    broken = pytest.mark.xfail(strict=True, raises=(AssertionError, *also), reason=f"README: {row}")
    return pytest.param(kind, marks=broken, id=getattr(kind, "__name__", str(kind)))


@pytest.fixture
async def make(valkey: Valkey, queue: str, make_broker: MakeBroker) -> AsyncIterator[Make]:
    """A broker of either side, started; a stock one that reclaims as soon as it may and reads what was sent before it."""
    made: list[AsyncBroker] = []

    async def start(kind: type[Broker], url: str = valkey.url, **options: Any) -> Broker:
        if kind is TimerBroker:
            broker: Broker = make_broker(url, **options)
        elif kind is RedisStreamBroker:
            settings = {"queue_name": queue, "consumer_id": "0", "idle_timeout": 1, "xread_block": 50, **options}
            broker = RedisStreamBroker(url, **settings)
        else:
            broker = ListQueueBroker(url, queue_name=queue, **options)
        broker.is_worker_process = True
        await broker.startup()
        made.append(broker)
        return broker

    yield start
    for broker in made:
        await broker.shutdown()


@pytest.fixture
async def raw(valkey: Valkey) -> AsyncIterator[Redis]:
    client = Redis.from_url(valkey.url, protocol=2)
    yield client
    await client.aclose()


@asynccontextmanager
async def receiving(broker: Broker) -> AsyncIterator[None]:
    """Taskiq's own way of doing one message after the other.

    Not its `listen`: told to finish while a stock broker reads, it stays for ever without uvloop, as does the read.
    """
    receiver = Receiver(broker, run_startup=False, max_async_tasks=10)

    async def run() -> None:
        async for message in broker.listen():
            await receiver.callback(message)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        await end(task)


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel it until it ends: the read of a stock broker may swallow what cancels it, and then goes on for ever."""
    async with asyncio.timeout(within(30)):
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.05)


async def send(broker: Broker, what: str, **labels: Any) -> None:
    task: Any = broker.find_task("note")
    await task.kicker().with_labels(**labels).kiq(what)


async def arrives(listening: AsyncIterator[Any], limit: float) -> Any:
    """The next message, or AssertionError."""

    async def read() -> Any:
        return await anext(listening)

    reading = asyncio.create_task(read())
    try:
        done, _ = await asyncio.wait({reading}, timeout=limit)
    finally:
        await end(reading)
    assert done, f"nothing came within {limit} s"
    return reading.result()


def patience(broker: Broker) -> float:
    return within(30) if isinstance(broker, TimerBroker) else NEVER


def what_of(broker: Broker, message: Any) -> str:
    data = message.data if isinstance(message, AckableMessage) else message
    return str(broker.formatter.loads(data).args[0])


DELAY = "no Redis broker honours the `delay` label"


@pytest.mark.parametrize("kind", [stock(ListQueueBroker, DELAY), stock(RedisStreamBroker, DELAY), TimerBroker])
async def test_what_is_sent_with_a_delay_does_not_run_at_once(make: Any, kind: type[Broker]) -> None:
    broker = await make(kind)
    ran = noting(broker)
    await send(broker, "later", delay=600)
    await send(broker, "now")
    async with receiving(broker):
        await until(lambda: "now" in ran, "what has no delay runs")
        await asyncio.sleep(0)
    assert ran == ["now"]


RECLAIM = "abandoned messages wait for the next message, for ever on Sentinel and Cluster"


@pytest.mark.parametrize("kind", [stock(ListQueueBroker, RECLAIM), stock(RedisStreamBroker, RECLAIM), TimerBroker])
async def test_what_a_dead_worker_held_comes_back_though_nothing_else_is_sent(make: Any, kind: type[Broker]) -> None:
    dead, alive = [await make(kind, **({"lease": 0.5} if kind is TimerBroker else {})) for _ in range(2)]
    noting(dead), noting(alive)
    await send(dead, "held")
    listening = dead.listen()
    assert what_of(dead, await arrives(listening, within(30))) == "held"
    if isinstance(dead, TimerBroker):
        for consumer in dead.consumers:
            await consumer.stop(give_back=False)
    others = alive.listen()
    assert what_of(alive, await arrives(others, patience(alive))) == "held"
    await others.aclose()
    await listening.aclose()


@pytest.mark.parametrize("kind", [RedisStreamSentinelBroker, RedisStreamClusterBroker])
def test_the_stock_brokers_of_sentinel_and_cluster_reclaim_nothing(kind: Any) -> None:
    names = kind.listen.__code__.co_names
    assert "xreadgroup" in names
    assert "xautoclaim" not in names, f"{kind.__name__} reclaims: the row of the README is out of date"


@pytest.mark.parametrize("kind", [stock(RedisStreamBroker, "long tasks run twice (taskiq-redis#101)"), TimerBroker])
async def test_a_task_that_takes_longer_than_the_time_out_is_given_to_no_other_worker(
    make: Any, kind: type[Broker], raw: Redis, queue: str
) -> None:
    lease = within(0.4)  # both share this loop: one that stands still for a lease lets the other have what it does
    broker, other = [await make(kind, **({"lease": lease} if kind is TimerBroker else {})) for _ in range(2)]
    noting(broker), noting(other)
    await send(broker, "long")
    listening, others = broker.listen(), other.listen()
    assert what_of(broker, await arrives(listening, within(30))) == "long"
    if kind is RedisStreamBroker:
        [entry] = await raw.xpending_range(queue, "taskiq", "-", "+", 1)
        stream: Any = raw
        await stream.xclaim(queue, "taskiq", entry["consumer"], 0, [entry["message_id"]], idle=HOUR_MS)
    else:
        await asyncio.sleep(2.5 * lease)  # by the clock of Redis
    got: list[str] = []
    for what in ("first", "second"):
        await send(other, what)
        got.append(what_of(other, await arrives(others, within(30))))
    assert got == ["first", "second"]
    await others.aclose()
    await listening.aclose()


@pytest.mark.parametrize("kind", [stock(RedisStreamBroker, "acknowledged entries stay in the stream"), TimerBroker])
async def test_what_is_done_takes_no_memory(make: Any, kind: type[Broker], raw: Redis, queue: str) -> None:
    broker = await make(kind)
    ran = noting(broker)
    async with receiving(broker):
        for number in range(20):
            await send(broker, str(number))
        await until(lambda: len(ran) == 20, "all run")

        async def acknowledged() -> bool:
            keys = [key async for key in raw.scan_iter(f"*{queue}*", _type="stream")]
            groups = [group for key in keys for group in await raw.xinfo_groups(key)]
            return not any(group["pending"] for group in groups)

        await until(acknowledged, "all are acknowledged")
    left = {key: await raw.xlen(key) async for key in raw.scan_iter(f"*{queue}*", _type="stream")}
    assert sum(number for key, number in left.items() if b"wake" not in key) == 0


async def test_the_stock_bound_of_a_stream_trims_what_no_worker_has_read(make: Any, raw: Redis, queue: str) -> None:
    broker = await make(RedisStreamBroker, maxlen=10, approximate=False)
    noting(broker)
    for number in range(30):
        await send(broker, str(number))
    assert await raw.xlen(queue) == 10, "unread messages are kept: the row of the README is out of date"


ENDS = "a lost group, a dropped connection or an odd entry ends the worker or spins a core"


@pytest.mark.parametrize("kind", [stock(RedisStreamBroker, ENDS, RedisError), TimerBroker])
async def test_a_lost_group_is_made_anew(make: Any, kind: type[Broker], raw: Redis, queue: str) -> None:
    broker = await make(kind)
    noting(broker)
    await send(broker, "before")
    listening = broker.listen()
    await (await arrives(listening, within(30))).ack()
    waiting = asyncio.ensure_future(arrives(listening, within(30)))
    await asyncio.sleep(0)
    await raw.delete(*[key async for key in raw.scan_iter(f"*{queue}*")])
    await send(broker, "after")
    assert what_of(broker, await waiting) == "after"
    await listening.aclose()


@pytest.mark.parametrize("kind", [stock(RedisStreamBroker, ENDS, KeyError), TimerBroker])
async def test_an_odd_entry_does_not_end_the_worker(make: Any, kind: type[Broker], raw: Redis, queue: str) -> None:
    broker = await make(kind)
    noting(broker)
    key = broker.shards[0].streams["normal"] if isinstance(broker, TimerBroker) else queue
    await raw.xadd(key, {"what": "is this?"})
    await send(broker, "after")
    listening = broker.listen()
    assert what_of(broker, await arrives(listening, within(30))) == "after"
    await listening.aclose()


@pytest.mark.parametrize(
    "kind", [stock(ListQueueBroker, ENDS, RedisError), stock(RedisStreamBroker, ENDS, RedisError), TimerBroker]
)
async def test_a_redis_that_restarts_does_not_end_the_worker(make: Any, kind: type[Broker], tmp_path: Path) -> None:
    async with server(tmp_path / "own") as own:
        broker = await make(kind, own.url)
        noting(broker)
        await send(broker, "before")
        listening = broker.listen()
        message = await arrives(listening, within(30))
        waiting = asyncio.ensure_future(arrives(listening, within(30)))
        await asyncio.sleep(0.1)
        own.kill()
        await asyncio.sleep(0.3)
        await own.start()
        if isinstance(message, AckableMessage) and isinstance(broker, TimerBroker):
            ack: Any = message.ack()
            await ack
        while True:
            try:
                await send(broker, "after")
                break
            except Exception:
                await asyncio.sleep(0.05)
        try:
            assert what_of(broker, await waiting) == "after"
        finally:
            await listening.aclose()
            await broker.shutdown()


KEPT = "what cannot be read and unknown tasks are acknowledged away; no rejects, no dead letters"


@pytest.mark.parametrize("kind", [stock(ListQueueBroker, KEPT), stock(RedisStreamBroker, KEPT), TimerBroker])
async def test_what_cannot_be_done_is_kept_with_the_reason(
    make: Any, kind: type[Broker], raw: Redis, queue: str
) -> None:
    broker = await make(kind)
    ran = noting(broker)
    task: Any = broker.find_task("note")
    message = broker.formatter.dumps(task.kicker()._prepare_message("x"))
    await broker.kick(message.model_copy(update={"message": b"\xff\xfe"}))
    unknown = task.kicker()._prepare_message("x").model_copy(update={"task_name": "gone"})
    await broker.kick(broker.formatter.dumps(unknown))
    await send(broker, "bad")
    await send(broker, "last")
    async with working(broker) if isinstance(broker, TimerBroker) else receiving(broker):
        await until(lambda: ran == ["last"], "the rest goes on")

        async def kept() -> int:
            if isinstance(broker, TimerBroker):
                return (await broker.figures()).dead
            if isinstance(broker, ListQueueBroker):
                return int(await raw.llen(queue))
            return int((await raw.xpending(queue, "taskiq"))["pending"])

        if isinstance(broker, TimerBroker):

            async def all_kept() -> bool:
                return await kept() == 3

            await until(all_kept, "three dead letters")
        else:
            await asyncio.sleep(0.2)
    assert await kept() == 3


@pytest.mark.parametrize(
    "kind",
    [
        stock(ListQueueBroker, "a client is built for each call"),
        stock(RedisStreamBroker, "a client is built for each call"),
        TimerBroker,
    ],
)
async def test_sending_builds_no_clients(make: Any, kind: type[Broker], monkeypatch: pytest.MonkeyPatch) -> None:
    broker = await make(kind)
    noting(broker)
    await send(broker, "first")
    built = 0
    initialise = Redis.__init__

    def counted(self: Any, *arguments: Any, **options: Any) -> None:
        nonlocal built
        built += 1
        initialise(self, *arguments, **options)

    monkeypatch.setattr(Redis, "__init__", counted)
    for number in range(10):
        await send(broker, str(number))
    assert built == 0


def test_the_stock_cluster_client_repeats_a_lost_call_and_ours_does_not() -> None:
    """What comes of it: tests/timers/test_topologies.py."""
    stock_client = RedisCluster.from_url("redis://127.0.0.1:1")
    assert stock_client.retry.get_retries() == 10, "the row of the README is out of date"
    ours: Any = Connections.from_url("redis+cluster://127.0.0.1:1", command_timeout=1.0, block=1.0)
    assert ours.commands.retry.get_retries() < 10
