"""The same library on a Redis Cluster and behind Sentinel, with real processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tocsin_stack import binaries
from tocsin_stack.ports import free_port
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import in_seconds, server, settled, until, working

PASSWORD = "test"


def with_password(folder: Path) -> Path:
    """The nodes of one group must know each other's password."""
    folder.mkdir(parents=True)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    return folder


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[Valkey]]:
    """Three masters without replicas, a third of the slots each."""
    extra = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--masterauth", PASSWORD)
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(3):
            # A node listens for the others 10000 above its port.
            port = free_port()
            node = server(with_password(tmp_path / f"node{number}"), port=port, extra=extra)
            nodes.append(await stack.enter_async_context(node))
        clients = [connect(node) for node in nodes]
        for number, client in enumerate(clients):
            stack.push_async_callback(client.aclose)
            first, last = number * 16384 // 3, (number + 1) * 16384 // 3 - 1
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            for other in nodes:
                await client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)

        async def joined() -> bool:
            infos = [await client.execute_command("CLUSTER", "INFO") for client in clients]
            return all(b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info for info in infos)

        await until(joined, "the cluster is whole", limit=20)
        yield nodes


def connect(node: Valkey) -> Any:
    return Redis.from_url(node.url, protocol=2)


async def test_a_cluster_with_shards_on_every_master(cluster: list[Valkey], make_broker: MakeBroker) -> None:
    broker = make_broker(cluster[0].url.replace("redis://", "redis+cluster://"), shards=6, command_timeout=2.0)
    source = TimerSource(broker)
    ran: list[str] = []

    @broker.task("note", attempts=1)
    async def note(what: str) -> None:
        ran.append(what)
        if what == "bad":
            raise ValueError

    async with working(broker):
        await source.arm(source.timer(str(n), in_seconds(2), note, str(n)) for n in range(300))
        assert await source.delete_schedules(str(n) for n in range(100)) == 100
        assert await source.delete_schedule("100")
        await note.kicker().with_schedule_id("one").schedule_by_time(source, in_seconds(0.2), "one")
        await broker.kick_many(broker.encode(note, f"now{n}") for n in range(50))
        await note.kiq("bad")
        await until(lambda: len(ran) >= 251, "all run")
        await until(lambda: settled(broker), "nothing is left")
        figures = await broker.figures()
        assert (figures.completed, figures.dead) == (250, 1)
        assert await broker.redrive([letter.id for letter in await broker.dead_letters()]) == 1
        await until(lambda: ran.count("bad") == 2, "it runs again")
        assert [await broker.witness() for _ in range(2)] == [False, True]
        await broker.pause()
        assert await broker.is_paused()
        await broker.resume()
    assert len(ran) == len(set(ran)) + 1
    for node in cluster:
        client = connect(node)
        assert await client.dbsize(), "a master without any shard"
        await client.aclose()


@pytest.fixture
async def sentinel(tmp_path: Path) -> AsyncIterator[tuple[list[Valkey], int]]:
    """A master, its replica, and one sentinel that may decide alone."""
    async with AsyncExitStack() as stack:
        options = ("--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
        master = await stack.enter_async_context(server(with_password(tmp_path / "master"), extra=options))
        replica = await stack.enter_async_context(
            server(with_password(tmp_path / "replica"), extra=(*options, "--replicaof", f"127.0.0.1 {master.port}"))
        )
        port = free_port()
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
            f"sentinel monitor timers 127.0.0.1 {master.port} 1\nsentinel auth-pass timers {PASSWORD}\n"
            "sentinel down-after-milliseconds timers 600\nsentinel failover-timeout timers 3000\n"
        )
        process = await asyncio.create_subprocess_exec(
            str(binaries.valkey()), str(configuration), "--sentinel", stdout=asyncio.subprocess.DEVNULL
        )
        stack.push_async_callback(process.wait)
        stack.callback(process.kill)
        client: Any = Redis(port=port, protocol=2)
        stack.push_async_callback(client.aclose)

        async def watches() -> bool:
            try:
                return bool(await client.execute_command("SENTINEL", "REPLICAS", "timers"))
            except (OSError, RedisError):
                return False

        await until(watches, "the sentinel knows the replica", limit=20)
        yield [master, replica], port


async def test_a_failover_behind_sentinel(sentinel: tuple[list[Valkey], int], make_broker: MakeBroker) -> None:
    [master, replica], port = sentinel
    broker = make_broker(f"redis+sentinel://:{PASSWORD}@127.0.0.1:{port}/timers/0")
    source = TimerSource(broker)
    ran: list[str] = []

    @broker.task("note")
    async def note(what: str) -> None:
        ran.append(what)

    async with working(broker):
        assert [await broker.witness() for _ in range(2)] == [False, True]
        await note.kiq("before")
        await source.arm([source.timer("later", in_seconds(4), note, "later")])
        await until(lambda: ran == ["before"], "it runs")
        client = connect(replica)

        async def copied() -> bool:
            return bool(await client.exists("{" + broker.queue + "}:due"))

        await until(copied, "the replica has the timer")
        await client.aclose()
        master.kill()
        await until(lambda: "later" in ran, "the timer fires from the promoted replica", limit=15)
        await note.kiq("after")
        await until(lambda: "after" in ran, "it runs")
        assert [await broker.witness() for _ in range(2)] == [False, True]
    assert ran == ["before", "later", "after"]
