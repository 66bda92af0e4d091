"""A Redis that forgot is filled: by one process, by another if that one dies, and anew if it forgets meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import RedisError
from tocsin_stack.ports import free_port
from tocsin_timers import TimerBroker

from tests.timers.conftest import MakeBroker
from tests.timers.support import filled, until


class Filler:
    """One process that asks: its fillings begin, and end when they are let go."""

    def __init__(self, broker: TimerBroker) -> None:
        self.broker = broker
        self.began = 0
        self.go = asyncio.Event()

    async def arm_all(self) -> None:
        self.began += 1
        await self.go.wait()

    async def asks(self) -> bool:
        return await self.broker.refill(self.arm_all)


@pytest.fixture
def two(make_broker: MakeBroker) -> tuple[Filler, Filler]:
    return Filler(make_broker(lease=0.6)), Filler(make_broker(lease=0.6))


async def test_one_of_many_askers_fills(make_broker: MakeBroker) -> None:
    fillers = [Filler(make_broker(shards=3)) for _ in range(4)]
    asking = [asyncio.create_task(filler.asks()) for filler in fillers for _ in range(5)]
    await until(lambda: sum(task.done() for task in asking) >= len(asking) - 3, "the others are told to ask again")
    assert not any(task.result() for task in asking if task.done())
    for filler in fillers:
        filler.go.set()
    await asyncio.gather(*asking)
    # Each shard is claimed by one asker; together they may be claimed by up to three.
    assert 1 <= sum(filler.began for filler in fillers) <= 3
    assert await asyncio.gather(*(filler.asks() for filler in fillers)) == [True] * 4
    assert sum(filler.began for filler in fillers) <= 3


async def test_a_filling_that_takes_longer_than_a_lease_stays_the_only_one(two: tuple[Filler, Filler]) -> None:
    first, second = two
    asking = asyncio.create_task(first.asks())
    await until(lambda: first.began == 1, "it begins")
    deadline = asyncio.get_running_loop().time() + 1.5
    while asyncio.get_running_loop().time() < deadline:
        assert not await second.asks()
        await asyncio.sleep(0.05)
    first.go.set()
    assert await asking
    assert second.began == 0
    assert await second.asks()


async def test_when_it_dies_another_one_fills(two: tuple[Filler, Filler]) -> None:
    """The first one's connections are gone, so that it can neither keep nor drop its claim: as after a SIGKILL."""
    first, second = two
    asking = asyncio.create_task(first.asks())
    await until(lambda: first.began == 1, "it begins")
    [shard] = first.broker.shards
    shard._commands.connection_pool.connection_kwargs["port"] = free_port()  # type: ignore[union-attr]
    await shard._commands.aclose()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    second.go.set()
    await until(second.asks, "another one fills it when the claim has ended", limit=5)
    assert second.began == 1


@pytest.mark.parametrize("failure", [RedisError, LookupError, asyncio.CancelledError])
async def test_a_failed_filling_is_begun_anew_at_once(two: tuple[Filler, Filler], failure: type[BaseException]) -> None:
    async def fails() -> None:
        raise failure

    first, second = two
    with pytest.raises(failure):
        await first.broker.refill(fails)
    second.go.set()
    assert await second.asks()
    assert second.began == 1


@pytest.mark.parametrize("disturbed", ["flushed", "restarted elsewhere", "taken over"])
async def test_what_forgets_while_it_is_filled_is_filled_again(two: tuple[Filler, Filler], disturbed: str) -> None:
    first, second = two
    [shard] = first.broker.shards
    asking = asyncio.create_task(first.asks())
    await until(lambda: first.began == 1, "it begins")
    mark, claim = shard._claim_keys
    match disturbed:
        case "flushed":
            await shard._commands.delete(mark, claim, shard._due, shard._data)
        case "restarted elsewhere":
            # What a replica that was promoted knows: the claim, made in another run.
            value: Any = await shard._commands.get(claim)
            await shard._commands.set(claim, value[:-40] + b"0" * 40, px=60_000)
        case "taken over":
            await shard._commands.set(claim, "another:run", px=60_000)
    first.go.set()
    assert not await asking, "nobody may believe that it is filled"
    await shard._commands.delete(claim)
    second.go.set()
    assert await second.asks()
    assert second.began == 1
    assert await filled(first.broker) == 0


async def test_a_shard_that_is_away_is_told_and_keeps_no_claim(make_broker: MakeBroker) -> None:
    broker = make_broker(shards=2, command_timeout=0.2)
    away: Callable[..., Awaitable[object]] = broker.shards[1].look

    async def refuses(token: str, lease: float) -> object:
        raise RedisError("away")

    broker.shards[1].look = refuses  # type: ignore[method-assign,assignment]
    with pytest.raises(RedisError):
        await filled(broker)
    broker.shards[1].look = away  # type: ignore[method-assign,assignment]
    assert await filled(broker) == 1
