"""A Redis that is stopped: it takes connections and answers nothing, until it goes on."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from taskiq.exceptions import SendTaskError
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import in_seconds, server, tasks, until, working

TIME_OUT = 0.3


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    """One that a test may stop."""
    async with server(tmp_path / "hanging") as running:
        yield running
        running.resume()


@contextmanager
def stopped(valkey: Valkey) -> Any:
    valkey.pause()
    try:
        yield
    finally:
        valkey.resume()


async def seconds_to_fail(call: Any) -> float:
    began = time.monotonic()
    with pytest.raises(RedisError):
        await call
    return time.monotonic() - began


async def is_sent(sending: Awaitable[object]) -> bool:
    """On a slow machine another command may have timed out meanwhile."""
    try:
        await sending
    except SendTaskError:
        return False
    return True


async def test_after_one_time_out_every_command_of_the_process_fails_at_once(
    valkey: Valkey, make_broker: MakeBroker
) -> None:
    broker = make_broker(valkey.url, command_timeout=TIME_OUT)
    other = make_broker(valkey.url, queue="other", command_timeout=TIME_OUT, circuit=broker.circuit)
    source = TimerSource(other)
    for each in (broker, other):
        await each.figures()
    with stopped(valkey):
        first = await seconds_to_fail(broker.figures())
        others = [
            await seconds_to_fail(call)
            for call in (
                other.figures(),
                source.delete_schedule("x"),
                broker.pause(),
                other.check(),
                broker.refill(never),
            )
        ]
        assert statistics.median(others) < first / 5, (first, others)


async def test_commands_under_way_end_with_the_first_that_times_out(valkey: Valkey, make_broker: MakeBroker) -> None:
    broker = make_broker(valkey.url, command_timeout=TIME_OUT)
    patient = make_broker(valkey.url, queue="patient", command_timeout=100 * TIME_OUT, circuit=broker.circuit)
    await patient.figures()
    with stopped(valkey):
        waiting = asyncio.create_task(seconds_to_fail(patient.figures()))
        await asyncio.sleep(0)
        first = await seconds_to_fail(broker.figures())
        assert await waiting < 3 * first


async def test_it_is_used_again_as_soon_as_it_answers(valkey: Valkey, make_broker: MakeBroker) -> None:
    """Timers that fell due meanwhile fire, and what is sent now runs, well before anything would look by itself."""
    broker = make_broker(valkey.url, command_timeout=TIME_OUT)
    source = TimerSource(broker)
    ran: dict[str, float] = {}

    @broker.task("x")
    async def x(name: str) -> None:
        ran[name] = time.monotonic()

    async with working(broker):
        await x.kiq("before")
        await until(lambda: "before" in ran, "it works")
        await source.arm([source.timer("timer", in_seconds(TIME_OUT), x, "timer")])
        with stopped(valkey):
            circuit = broker.circuit
            assert circuit is not None
            await until(circuit.is_open, "somebody timed out")
            await asyncio.sleep(3 * TIME_OUT)
            assert circuit.is_open()
        resumed = time.monotonic()
        await circuit.answers()
        await until(lambda: is_sent(x.kiq("after")), "it is used again")
        await until(lambda: {"timer", "after"} <= set(ran), "both ran")
        # Without the probe the loops would be asleep in their back-off, which has grown to a second.
        assert max(ran.values()) - resumed < within(2 * TIME_OUT)


async def test_a_redis_whose_writes_are_paused_counts_as_one_that_hangs(
    valkey: Valkey, make_broker: MakeBroker
) -> None:
    """As while an operator has it fail over. It answers a PING all along."""
    broker = make_broker(valkey.url, command_timeout=TIME_OUT)
    await broker.figures()
    client: Any = Redis.from_url(valkey.url)
    async with client as redis:
        await redis.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
        await seconds_to_fail(broker.check())
        assert await redis.ping()
        circuit = broker.circuit
        assert circuit is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TIME_OUT):
                await circuit.answers()
        await redis.execute_command("CLIENT", "UNPAUSE")
    await circuit.answers()


async def test_a_server_that_is_killed_while_it_hangs_and_started_again_is_found(
    valkey: Valkey, make_broker: MakeBroker
) -> None:
    broker = make_broker(valkey.url, command_timeout=TIME_OUT)
    await broker.figures()
    valkey.pause()
    await seconds_to_fail(broker.figures())
    valkey.kill()
    await valkey.start()

    async def works() -> bool:
        try:
            await broker.check()
        except RedisError:
            return False
        return True

    await until(works, "it is used again")


async def test_a_full_redis_and_a_replica_do_not_pass_the_check(valkey: Valkey, make_broker: MakeBroker) -> None:
    broker = make_broker(valkey.url)
    client = broker.shards[0]._commands
    for refuse, accept in (
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0")),
    ):
        await broker.check()
        await client.execute_command(*refuse)
        with pytest.raises(RedisError):
            await broker.check()
        await client.execute_command(*accept)
    await broker.check()


async def test_a_broker_that_is_shut_down_while_redis_hangs_leaves_no_task_behind(
    valkey: Valkey, make_broker: MakeBroker
) -> None:
    broker = make_broker(valkey.url, command_timeout=TIME_OUT)
    before = tasks()
    with stopped(valkey):
        await seconds_to_fail(broker.figures())
        await broker.shutdown()
    assert not tasks() - before


async def never() -> None:
    raise AssertionError("a Redis that does not answer cannot be known to be empty")
