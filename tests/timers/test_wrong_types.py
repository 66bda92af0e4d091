"""Another program writes to a key of ours: scripts end where they meet it, and Redis does not undo their earlier writes.

Each ends so that the next call, once the key is gone, finds what the first one found.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from tocsin_timers import TimerBroker
from tocsin_timers.delivery import DONE, Delivery, Outcome
from tocsin_timers.shard import Shard

from tests.timers.conftest import MakeBroker

STREAM = "stream:normal"
WRITTEN = ("due", "data", "wake", "dead", "stats", "rate", "adopted", "filled", "claim", STREAM)
"""`paused` is only asked for, and `check` is written anew."""


@pytest.fixture
def broker(make_broker: MakeBroker) -> TimerBroker:
    return make_broker(priorities=("urgent", "normal"))


@pytest.fixture
async def shard(broker: TimerBroker) -> Shard:
    [shard] = broker.shards
    await shard.make_groups()
    return shard


def key(shard: Shard, name: str) -> str:
    return shard._due.removesuffix("due") + name


@asynccontextmanager
async def written(shard: Shard, name: str) -> AsyncIterator[None]:
    """Another program wrote to this key; at the end it is as it was."""
    redis = shard._commands
    assert isinstance(redis, Redis)
    kept = await redis.dump(key(shard, name))
    await redis.delete(key(shard, name))
    # A string where none is expected, and a list where one is.
    await (redis.rpush if name in ("filled", "claim") else redis.set)(key(shard, name), "hello")
    yield
    await redis.delete(key(shard, name))
    if kept:
        await redis.restore(key(shard, name), 0, kept)


async def refused(call: object) -> None:
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await call  # type: ignore[misc]


async def taken(shard: Shard, priority: str) -> list[Delivery]:
    return await shard.read(priority, "me", 10, 0.001)


@pytest.mark.parametrize("name", WRITTEN)
async def test_the_check_tells_of_it_and_names_the_key(shard: Shard, name: str) -> None:
    await shard.check()
    async with written(shard, name):
        with pytest.raises(RedisError, match=name):
            await shard.check()
    await shard.check()


async def test_a_stream_that_cannot_take_timers_holds_up_no_other_and_doubles_none(shard: Shard) -> None:
    timers = [("+0", "a", b"nfirst"), ("+0", "b", b"usecond"), ("+0", "c", b"nthird")]
    async with written(shard, STREAM):
        await shard.arm(timers)
        for _ in range(3):
            await refused(shard.promote(10))
        assert [each.data for each in await taken(shard, "urgent")] == [b"second"]
    await shard.make_groups()
    assert (await shard.promote(10)).promoted == 2
    assert [each.data for each in await taken(shard, "normal")] == [b"first", b"third"]


async def test_a_stream_that_cannot_take_the_message_of_shared_timers_keeps_all_of_them(shard: Shard) -> None:
    async with written(shard, STREAM):
        await shard.arm([("+0", id, b"Nlook") for id in ("a", "b", "c")])
        await refused(shard.promote(10))
    await shard.make_groups()
    assert (await shard.promote(10)).promoted == 3
    assert [each.data for each in await taken(shard, "normal")] == [b"look"]


@pytest.mark.parametrize("name", ["due", "data"])
async def test_what_is_to_be_tried_again_stays(shard: Shard, name: str) -> None:
    await shard.send([("normal", b"one")], 0)
    [delivery] = await taken(shard, "normal")
    delivery.outcome = Outcome("retry", (0, "id", b"none"))
    async with written(shard, name):
        await refused(shard.settle([delivery]))
        assert await shard.read_own("normal", "me")
    assert await shard.settle([delivery]) == 1
    assert (await shard.promote(10)).promoted == 1
    assert not await shard.read_own("normal", "me")


async def test_what_is_dead_stays_until_it_can_be_kept_and_what_is_done_ends(shard: Shard) -> None:
    await shard.send([("normal", b"broken"), ("normal", b"fine")], 0)
    broken, fine = await taken(shard, "normal")
    broken.outcome, fine.outcome = Outcome("bury", (b"broken", "why", "")), DONE
    async with written(shard, "dead"):
        await refused(shard.settle([broken, fine]))
        assert [each.data for each in await shard.read_own("normal", "me")] == [b"broken"]
    assert await shard.settle([broken, fine]) == 1
    assert [fields[b"d"] for _, fields in await shard.dead("", 10)] == [b"broken"]


async def test_figures_that_cannot_be_counted_hold_up_nothing(shard: Shard) -> None:
    await shard.send([("normal", b"kills"), ("normal", b"fine")], 0)
    _, fine = await taken(shard, "normal")
    fine.outcome = DONE
    async with written(shard, "stats"):
        assert await shard.settle([fine]) == 1
        assert await shard.reclaim("normal", "other", 0.0, 10, 1) == ([], 1)
        assert await shard.reclaim("normal", "other", 0.0, 10, 1) == ([], 0)
        await shard.bury("normal", b"unsent", "why")
    assert [fields[b"d"] for _, fields in await shard.dead("", 10)] == [b"kills", b"unsent"]


async def test_a_dead_letter_is_not_lost_on_its_way_back(shard: Shard) -> None:
    await shard.bury("normal", b"one", "why")
    [(id, _)] = await shard.dead("", 10)
    async with written(shard, STREAM):
        await refused(shard.redrive([(id.decode(), "n", b"one")]))
    assert await shard.redrive([(id.decode(), "n", b"one")]) == 1
    assert await shard.redrive([(id.decode(), "n", b"one")]) == 0
    assert [each.data for each in await taken(shard, "normal")] == [b"one"]


async def test_what_is_adopted_is_remembered_once_it_is_armed(shard: Shard) -> None:
    offered = [("+0", "id", b"none", "0123456789abcdef")]
    async with written(shard, "due"):
        await refused(shard.adopt(offered, 60))
    assert await shard.adopt(offered, 60) == "1"
    assert await shard.adopt(offered, 60) == "0"
    assert (await shard.promote(10)).promoted == 1
