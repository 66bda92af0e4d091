"""Receivers that are not ours, and are busy for many leases: what they have not begun is for others, and counts as no delivery."""

import asyncio
from typing import Any

import pytest
from tocsin_testkit.busy import within
from tocsin_timers import TimerBroker

from tests.timers.conftest import MakeBroker
from tests.timers.support import noting, until


@pytest.fixture
async def busy(make_broker: MakeBroker) -> TimerBroker:
    """With short leases. What was delivered twice and not finished is dead."""
    return await started(make_broker)


async def started(make_broker: MakeBroker) -> TimerBroker:
    # A receiver that stands still for a lease lets the other one of this loop have what it does.
    broker = make_broker(lease=within(0.3), max_deliveries=2)
    broker.is_worker_process = True
    await broker.startup()
    noting(broker)
    return broker


async def test_what_waits_behind_a_long_task_does_not_count_as_delivered(busy: TimerBroker) -> None:
    await send(busy, "long", "second", "third")
    listening = busy.listen()
    assert await received(busy, listening) == "long"
    # Given back, and not counted: otherwise it would be dead after two leases, though no worker ever began it.
    await until(lambda: given_back(busy, 2), "what waits is given back")
    assert [await received(busy, listening) for _ in range(2)] == ["second", "third"]
    assert (await busy.figures()).dead == 0
    await listening.aclose()


async def test_what_waits_behind_a_long_task_is_done_by_who_has_time(
    busy: TimerBroker, make_broker: MakeBroker
) -> None:
    await send(busy, "long", "second", "third")
    listening = busy.listen()
    assert await received(busy, listening) == "long"
    idle = await started(make_broker)
    others = idle.listen()
    assert [await received(idle, others) for _ in range(2)] == ["second", "third"]
    await others.aclose()
    await listening.aclose()


async def test_what_is_being_given_back_is_not_begun_although_redis_still_names_it(
    busy: TimerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    [shard] = busy.shards
    leaving, may_leave, read_again = asyncio.Event(), asyncio.Event(), asyncio.Event()
    release, read = shard.release, shard.read

    async def slow_release(*args: Any) -> int:
        leaving.set()
        await may_leave.wait()
        return await release(*args)

    async def next_read(*args: Any) -> Any:
        read_again.set()
        return await read(*args)

    await send(busy, "long", "second")
    listening = busy.listen()
    assert await received(busy, listening) == "long"
    monkeypatch.setattr(shard, "release", slow_release)
    await until(leaving.is_set, "what waits is being given back")
    [consumer] = busy.consumers
    consumer._uncertain.add((shard.number, "normal"))
    asking = asyncio.ensure_future(received(busy, listening))
    monkeypatch.setattr(shard, "read", next_read)
    await until(lambda: read_again.is_set() or asking.done(), "what it holds was read, and it reads on")
    assert not asking.done()
    may_leave.set()
    assert await asking == "second"
    assert [count for _, count in await pending(busy)] == [1, 1], "each was begun once"
    await listening.aclose()


async def test_to_read_again_what_one_holds_counts_as_no_delivery(busy: TimerBroker) -> None:
    await send(busy, "long")
    [shard] = busy.shards
    await shard.make_groups()
    assert await shard.read("normal", "me", count=10, block=1)
    for _ in range(5):
        [again] = await shard.read_own("normal", "me")
        assert again.data is not None
    assert await pending(busy) == [("me", 1)]


async def send(broker: TimerBroker, *what: str) -> None:
    task: Any = broker.find_task("note")
    for each in what:
        await task.kiq(each)


async def received(broker: TimerBroker, listening: Any) -> str:
    message = await anext(listening)
    return str(broker.formatter.loads(message.data).args[0])


async def given_back(broker: TimerBroker, number: int) -> bool:
    """Whether so many wait for anybody, and none of them counts as delivered."""
    return [each for each in await pending(broker) if each[0] == "-"] == [("-", 0)] * number


async def pending(broker: TimerBroker) -> list[tuple[str, int]]:
    """Of each entry that is not settled, who has it, and how often it counts as delivered."""
    [shard] = broker.shards
    redis: Any = shard._commands
    found = await redis.xpending_range(shard.streams["normal"], shard._group, "-", "+", 100)
    return [(each["consumer"].decode(), each["times_delivered"]) for each in found]
