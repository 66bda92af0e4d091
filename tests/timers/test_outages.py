"""Redis away, back, back empty, and replaced by another one."""

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError
from taskiq.exceptions import SendTaskError
from tocsin_stack.ports import free_port
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import TimerBroker, TimerSource
from tocsin_timers.delivery import Delivery
from tocsin_timers.shard import Shard
from tocsin_timers.start_warnings import problems

from tests.timers.conftest import MakeBroker
from tests.timers.support import done, filled, in_seconds, server, until, working


async def test_sending_fails_at_once_when_no_process_listens(make_broker: MakeBroker) -> None:
    broker = make_broker(f"redis://127.0.0.1:{free_port()}/0")

    @broker.task("x")
    async def x() -> None: ...

    begun = time.monotonic()
    with pytest.raises(SendTaskError) as failed:
        await x.kiq()
    assert isinstance(failed.value.__cause__, RedisError)
    with pytest.raises(RedisError):
        await TimerSource(broker).delete_schedule("x")
    assert time.monotonic() - begun < within(0.5)


async def test_sending_gives_up_soon_when_redis_hangs(tmp_path: Path, make_broker: MakeBroker) -> None:
    async with server(tmp_path / "hanging") as valkey:
        broker = make_broker(valkey.url, command_timeout=0.3)

        @broker.task("x")
        async def x() -> None: ...

        await x.kiq()
        valkey.pause()
        try:
            begun = time.monotonic()
            answers = await asyncio.gather(*(x.kiq() for _ in range(20)), return_exceptions=True)
            assert all(isinstance(answer, SendTaskError) for answer in answers)
            assert time.monotonic() - begun < within(2.5)
        finally:
            valkey.resume()
        assert broker.circuit is not None
        await broker.circuit.answers()
        # The next call is not spoilt by what the hung connection still had to say.
        await x.kiq()


async def test_a_worker_started_without_redis_waits_for_it_quietly(
    tmp_path: Path, make_broker: MakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    valkey = Valkey(tmp_path / "late")
    broker = make_broker(f"redis://127.0.0.1:{valkey.port}/0")
    ran = asyncio.Event()

    @broker.task("x")
    async def x() -> None:
        ran.set()

    with caplog.at_level(logging.WARNING):
        async with working(broker):
            used = time.process_time()
            begun = time.monotonic()
            await asyncio.sleep(1.5)
            share = (time.process_time() - used) / (time.monotonic() - begun)
            assert share < 0.2, f"{share:.0%} of a core while Redis is away"
            away = [record for record in caplog.records if "Redis is away" in record.message]
            assert 1 <= len(away) <= 10
            await start_without_password(valkey)
            try:
                await x.kiq()
                async with asyncio.timeout(within(5)):
                    await ran.wait()
                # A worker does not stop before it has settled, and without a server it would try for long.
                await until(lambda: done(broker, completed=1), "it is settled")
            finally:
                await valkey.stop()


async def test_a_server_that_reads_its_data_counts_as_away_and_nothing_fires_twice(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    """It takes connections, and answers LOADING to each command for as long as that takes."""
    folder = tmp_path / "large"
    async with server(folder, appendonly=False) as valkey:
        broker = make_broker(valkey.url)
        source = TimerSource(broker)
        ran: list[str] = []

        @broker.task("note")
        async def note(what: str) -> None:
            ran.append(what)

        client = Redis.from_url(valkey.url)
        for number in range(150):
            await client.set(f"large:{number}", os.urandom(1024))
        async with working(broker):
            await filled(broker)
            await source.arm([source.timer("due meanwhile", in_seconds(0.5), note, "due meanwhile")])
            await client.save()
            valkey.kill()
            slow = ("--key-load-delay", "200000", "--loading-process-events-interval-bytes", "1024")
            again = Valkey(folder, valkey.port, appendonly=False, extra=slow)
            starting = asyncio.create_task(again.start())
            try:
                await until(lambda: loads(client), "it reads its data")
                with pytest.raises(SendTaskError) as failed:
                    await note.kiq("too early")
                assert isinstance(failed.value.__cause__, BusyLoadingError)
                assert ran == []
                await client.config_set("key-load-delay", "0")
                await starting
                await until(lambda: ran == ["due meanwhile"], "what was due fires")
                await note.kiq("afterwards")
                await until(lambda: ran == ["due meanwhile", "afterwards"], "work goes on")
                await until(lambda: done(broker, completed=2), "it is settled")
            finally:
                await starting
                await client.aclose()
                await broker.shutdown()
                await again.stop()


async def loads(client: "Redis") -> bool:
    try:
        await client.ping()
    except BusyLoadingError:
        return True
    except RedisError:
        return False
    raise AssertionError("it has read its data")


async def start_without_password(valkey: Valkey) -> None:
    await valkey.start()
    client = Redis.from_url(valkey.url)
    await client.config_set("requirepass", "")
    await client.aclose()


@pytest.mark.parametrize("kept", [True, False])
async def test_work_goes_on_after_a_restart(tmp_path: Path, make_broker: MakeBroker, kept: bool) -> None:
    """With an append-only file nothing is lost; without one the group is made anew. It is filled anew either way, once."""
    async with server(tmp_path / "data", appendonly=kept) as valkey:
        broker = make_broker(valkey.url)
        source = TimerSource(broker)
        ran: list[str] = []

        @broker.task("note")
        async def note(what: str) -> None:
            ran.append(what)

        async with working(broker):
            assert [await filled(broker) for _ in range(3)] == [1, 0, 0]
            await note.kiq("before")
            await source.arm([source.timer("due while down", in_seconds(0.3), note, "due while down")])
            await until(lambda: ran == ["before"], "it runs")
            await asyncio.sleep(1.1 if kept else 0)  # appendfsync everysec
            valkey.kill()
            with pytest.raises(SendTaskError):
                await note.kiq("nobody there")
            await valkey.start()
            # The first command on a connection that died meanwhile succeeds.
            await note.kiq("after")
            await until(lambda: "after" in ran, "it runs", limit=8)
            if kept:
                await until(lambda: "due while down" in ran, "it fires after all")
            assert [await filled(broker) for _ in range(3)] == [1, 0, 0]
        assert sorted(ran) == (["after", "before", "due while down"] if kept else ["after", "before"])


async def test_after_a_flush_it_is_filled_once_and_work_goes_on(broker: TimerBroker) -> None:
    ran: list[str] = []

    @broker.task("note")
    async def note(what: str) -> None:
        ran.append(what)

    async with working(broker):
        assert await filled(broker) == 1
        await note.kiq("before")
        await until(lambda: ran == ["before"], "it runs")
        await broker.shards[0]._commands.flushall()
        assert [await filled(broker) for _ in range(2)] == [1, 0]
        await note.kiq("after")
        await note.kicker().with_labels(delay=0.1).kiq("later")
        await until(lambda: ran == ["before", "after", "later"], "they run", limit=8)


def test_settings_that_lose_timers_are_named() -> None:
    assert problems({"maxmemory_policy": "noeviction", "maxmemory": "100", "aof_enabled": "1"}) == []
    assert problems({"maxmemory_policy": "allkeys-lru", "maxmemory": "0", "aof_enabled": "1"}) == []
    assert problems({"maxmemory_policy": "volatile-lru", "maxmemory": "100", "aof_enabled": "1"}) == []
    [evicts] = problems({"maxmemory_policy": "allkeys-lru", "maxmemory": "100", "aof_enabled": "1"})
    assert "allkeys-lru" in evicts
    [forgets] = problems({"maxmemory_policy": "noeviction", "aof_enabled": "0"})
    assert "append-only" in forgets


async def test_a_worker_warns_of_them(
    tmp_path: Path, make_broker: MakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    extra = ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING):
        async with (
            server(tmp_path / "lossy", appendonly=False, extra=extra) as valkey,
            working(make_broker(valkey.url)),
        ):
            await until(lambda: len(caplog.records) >= 2, "both warnings")
    texts = " ".join(record.message for record in caplog.records)
    assert "allkeys-lru" in texts
    assert "append-only" in texts


async def test_what_is_settled_while_an_old_reply_is_on_its_way_does_not_run_again(
    valkey: Valkey, make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that lost its connection asks what it holds; the answer arrives after the task of which it tells has ended."""
    broker = make_broker()
    asked, arrives, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    runs: list[str] = []
    read_own = Shard.read_own

    async def slow(shard: Shard, priority: str, consumer: str) -> list[Delivery]:
        found = await read_own(shard, priority, consumer)
        asked.set()
        await arrives.wait()
        return found

    monkeypatch.setattr(Shard, "read_own", slow)

    @broker.task("x")
    async def x(what: str) -> None:
        runs.append(what)
        await go_on.wait()

    async with working(broker):
        await x.kiq("first")
        await until(lambda: runs == ["first"], "it runs")
        async with Redis.from_url(valkey.url) as redis:
            await redis.client_kill_filter(_type="normal", skipme=True)
        await x.kiq("second")  # a reader that is blocked notices when its queue has something
        async with asyncio.timeout(within(30)):
            await asked.wait()
        go_on.set()
        await until(lambda: done(broker, 1), "the first has ended")
        arrives.set()
        await until(lambda: done(broker, 2), "the second has ended")
    assert runs == ["first", "second"]
