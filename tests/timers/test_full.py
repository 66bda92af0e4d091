"""A Redis that is full refuses to take anything new; what it holds must still fire, or it would stay full for ever."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError
from taskiq.exceptions import SendTaskError
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import buried, in_seconds, server, settled, until, working


async def test_what_a_full_redis_holds_still_fires(tmp_path: Path, make_broker: MakeBroker) -> None:
    async with server(tmp_path / "redis") as valkey:
        broker = make_broker(valkey.url)
        source = TimerSource(broker)
        ran: list[str] = []
        tries = 0

        @broker.task("note")
        async def note(what: str) -> None:
            nonlocal tries
            tries += what == "flaky"
            if what == "flaky" and tries < 3:
                raise ValueError
            if what == "broken":
                raise LookupError
            ran.append(what)

        async with working(broker):
            await note.kiq("before")
            await until(lambda: ran == ["before"], "the worker works")
            held = [*(str(n) for n in range(300)), "flaky", "broken"]
            await source.arm([source.timer(what, in_seconds(0.5), note, what) for what in held])
            await source.arm([source.timer("cancelled", in_seconds(3600), note, "cancelled")])
            async with full(valkey):
                with pytest.raises(OutOfMemoryError):
                    await source.arm([source.timer("more", in_seconds(0), note, "more")])
                with pytest.raises(SendTaskError):
                    await note.kiq("more")
                assert await source.delete_schedule("cancelled")
                await until(lambda: len(ran) == 302, "all fire, and what failed is tried again")
                await until(lambda: settled(broker), "nothing stays behind")
                [letter] = await broker.dead_letters()
                assert await broker.redrive([letter.id]) == 1
                await until(lambda: buried(broker), "it is dead again")
            await note.kiq("after")
            await until(lambda: ran[-1] == "after", "there is room again")
        assert sorted(ran) == sorted({"before", "after", *held} - {"broken"})


async def test_workers_start_and_operators_act_on_a_full_redis(tmp_path: Path, make_broker: MakeBroker) -> None:
    """Consumer groups, a pause and the tokens of a rate limit take memory too."""
    async with server(tmp_path / "redis") as valkey:
        broker = make_broker(valkey.url)
        ran: list[str] = []

        @broker.task("note")
        async def note(what: str) -> None:
            ran.append(what)

        await note.kiq("sent before anybody worked")
        async with full(valkey), working(broker, rate_limit=100):
            await broker.pause()
            assert await broker.is_paused()
            await broker.resume()
            await until(lambda: ran == ["sent before anybody worked"], "it is done")


async def test_what_kills_its_workers_is_buried_on_a_full_redis_too(tmp_path: Path, make_broker: MakeBroker) -> None:
    async with server(tmp_path / "redis") as valkey:
        broker = make_broker(valkey.url, max_deliveries=1, lease=0.2)

        @broker.task("deadly")
        async def deadly() -> None: ...

        [shard] = broker.shards
        await shard.make_groups()
        await deadly.kiq()
        assert len(await shard.read("normal", "victim", 1, 0.1)) == 1
        async with full(valkey), working(broker):
            await until(lambda: buried(broker), "it is buried")


@asynccontextmanager
async def full(valkey: Valkey) -> AsyncIterator[None]:
    client: Any = Redis.from_url(valkey.url)
    await client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await client.config_set("maxmemory", 0)
        await client.aclose()
