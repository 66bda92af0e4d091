"""Several servers that make one Redis: a Cluster whose slots move and whose masters die, and a pair behind a Sentinel."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from tocsin_stack import binaries
from tocsin_stack.ports import HOST, free_port
from tocsin_stack.valkey import Valkey
from tocsin_timers.shard import Shard

from tests.timers.support import server, until

PASSWORD = "test"
SLOTS = 16384


class Node:
    """One server of a group, and a connection that asks only this server."""

    def __init__(self, valkey: Valkey) -> None:
        self.valkey = valkey
        self.port = valkey.port
        self._client: Any = Redis.from_url(valkey.url, protocol=2, max_connections=1)

    async def call(self, *command: str | int | bytes) -> Any:
        return await self._client.execute_command(*command)

    async def close(self) -> None:
        await self._client.aclose()

    async def follows(self) -> bool:
        """Whether it is a replica that has all its master had when it came."""
        try:
            return bool((await self.call("INFO", "replication")).get("master_link_status") == "up")
        except (OSError, RedisError):
            return False

    async def replicated(self, shard: Shard) -> None:
        """Return when a replica has all that this master was told about the shard until now."""
        # WAIT looks at what its own connection has written.
        await self.call("SET", shard.streams["normal"] + ":seen", 1)
        assert await self.call("WAIT", 1, 5000) >= 1, "no replica follows"


def with_password(folder: Path) -> Path:
    """The nodes of one group must know each other's password."""
    folder.mkdir(parents=True)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    return folder


@asynccontextmanager
async def node(folder: Path, *settings: str) -> AsyncIterator[Node]:
    extra = ("--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0", *settings)
    async with server(with_password(folder), extra=extra) as valkey:
        started = Node(valkey)
        try:
            yield started
        finally:
            await started.close()


def slot_of(shard: Shard) -> int:
    return key_slot(shard.streams["normal"].encode())


class Cluster:
    """Three masters, a third of the slots each; a replica of the first; and a master that came later and has no slots."""

    def __init__(self, nodes: Sequence[Node], bus_ports: Sequence[int]) -> None:
        self.nodes = list(nodes)
        self._bus_ports = bus_ports
        self.url = nodes[0].valkey.url.replace("redis://", "redis+cluster://")

    async def form(self) -> None:
        """Return when all of them agree."""
        *masters, replica, _ = self.nodes
        for number, master in enumerate(masters):
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            await master.call("CLUSTER", "ADDSLOTSRANGE", first, last)
        for other, bus_port in zip(self.nodes, self._bus_ports, strict=True):
            await masters[0].call("CLUSTER", "MEET", HOST, other.port, bus_port)
        await until(self._all_known, "they know each other", limit=20)
        await replica.call("CLUSTER", "REPLICATE", await id_of(masters[0]))
        await until(self.whole, "the cluster is whole", limit=20)

    async def whole(self) -> bool:
        """Whether no node has failed and the replica follows, as every node sees it."""
        try:
            known = await self._all_known()
            infos = [await node.call("CLUSTER", "INFO") for node in self.nodes]
            views = [await node.call("CLUSTER", "NODES") for node in self.nodes]
        except (OSError, RedisError):
            return False
        agreed = all(b"cluster_state:ok" in info for info in infos) and not any(b"fail" in view for view in views)
        return known and agreed and any([await node.follows() for node in self.nodes])

    async def owner(self, shard: Shard) -> Node:
        """The master that serves this shard, as the first node that answers sees it."""
        for node in self.nodes:
            try:
                port = await owner_as_seen_by(node, shard)
            except (OSError, RedisError):
                continue
            return next(node for node in self.nodes if node.port == port)
        raise AssertionError("no node answers")

    async def has_replica(self, node: Node) -> bool:
        return bool((await node.call("INFO", "replication"))["connected_slaves"])

    async def move(self, shard: Shard, target: Node, half_way: Callable[[], Awaitable[None]]) -> None:
        """Give the shard's slot to another master, key by key, as `redis-cli --cluster reshard` does."""
        source, slot = await self.owner(shard), slot_of(shard)
        await target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", await id_of(source))
        await source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", await id_of(target))
        await _migrate(source, target, slot, 3)
        await half_way()
        while await _migrate(source, target, slot, 100):
            pass
        for node in (target, source):
            await node.call("CLUSTER", "SETSLOT", slot, "NODE", await id_of(target))
        await until(lambda: self._served_by(shard, target), "all nodes know where the slot is")

    async def can_move_at_once(self) -> bool:
        return any(b"MIGRATESLOTS" in line for line in await self.nodes[0].call("CLUSTER", "HELP"))

    async def move_at_once(self, shard: Shard, target: Node) -> None:
        """The same with Valkey 9's own command."""
        source, slot = await self.owner(shard), slot_of(shard)
        await source.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", await id_of(target))
        await until(lambda: self._served_by(shard, target), "all nodes know where the slot is")

    async def _served_by(self, shard: Shard, target: Node) -> bool:
        return all([await owner_as_seen_by(node, shard) == target.port for node in self.nodes])

    async def _all_known(self) -> bool:
        known = f"cluster_known_nodes:{len(self.nodes)}".encode()
        return all([known in await node.call("CLUSTER", "INFO") for node in self.nodes])


async def id_of(node: Node) -> str:
    return str((await node.call("CLUSTER", "MYID")).decode())


async def owner_as_seen_by(node: Node, shard: Shard) -> int:
    rows = await node.call("CLUSTER", "SLOTS")
    return next(int(master[1]) for first, last, master, *_ in rows if first <= slot_of(shard) <= last)


async def _migrate(source: Node, target: Node, slot: int, count: int) -> int:
    keys = await source.call("CLUSTER", "GETKEYSINSLOT", slot, count)
    if keys:
        await source.call("MIGRATE", HOST, target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys)
    return len(keys)


@asynccontextmanager
async def cluster_of_five(folder: Path) -> AsyncIterator[Cluster]:
    # A master that has given its last slot away is to stay one.
    settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"]
    settings += ["--cluster-allow-replica-migration", "no"]
    async with AsyncExitStack() as stack:
        # By default 10000 above the node's own port, which is where the kernel takes those of outgoing connections from.
        bus_ports = [free_port() for _ in range(5)]
        nodes = [node(folder / f"node{n}", *settings, "--cluster-port", str(port)) for n, port in enumerate(bus_ports)]
        cluster = Cluster([await stack.enter_async_context(one) for one in nodes], bus_ports)
        await cluster.form()
        yield cluster


class Pair:
    """A master, its replica, and one sentinel that may decide alone."""

    def __init__(self, nodes: Sequence[Node], port: int) -> None:
        self.nodes = list(nodes)
        self.url = f"redis+sentinel://:{PASSWORD}@{HOST}:{port}/timers/0"
        self._sentinel: Any = Redis(port=port, protocol=2)

    async def ask(self, *command: str | int) -> Any:
        return await self._sentinel.execute_command("SENTINEL", *command)

    async def close(self) -> None:
        await self._sentinel.aclose()

    async def hurry(self) -> None:
        """The sentinel waits four times as long as it publishes before it makes a returned master a replica."""
        for parameter in ("PING-PERIOD", "INFO-PERIOD", "PUBLISH-PERIOD"):
            await self.ask("DEBUG", parameter, 100)

    async def answers(self) -> bool:
        try:
            return bool(await self._sentinel.ping())
        except (OSError, RedisError):
            return False

    async def ready(self, master: Node, replica: Node) -> bool:
        """Whether the sentinel could make the replica the master now."""
        [at] = await self.ask("MASTERS")
        followers = [dict(zip(row[::2], row[1::2], strict=True)) for row in await self.ask("REPLICAS", "timers")]
        known = [follower[b"flags"] == b"slave" and follower[b"master-link-status"] == b"ok" for follower in followers]
        return int(at[at.index(b"port") + 1]) == master.port and any(known) and await replica.follows()


@asynccontextmanager
async def sentinel_pair(folder: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(node(folder / "master"))
        following = ("--replicaof", f"{HOST} {master.port}")
        replica = await stack.enter_async_context(node(folder / "replica", *following))
        port = free_port()
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind {HOST}\ndir {folder}\n"
            f"sentinel monitor timers {HOST} {master.port} 1\nsentinel auth-pass timers {PASSWORD}\n"
            "sentinel down-after-milliseconds timers 400\nsentinel failover-timeout timers 1000\n"
        )
        process = await asyncio.create_subprocess_exec(
            str(binaries.valkey()), str(configuration), "--sentinel", stdout=asyncio.subprocess.DEVNULL
        )
        stack.push_async_callback(process.wait)
        stack.callback(process.kill)
        pair = Pair([master, replica], port)
        stack.push_async_callback(pair.close)
        await until(pair.answers, "the sentinel answers")
        await pair.hurry()
        await until(lambda: pair.ready(master, replica), "the sentinel knows the replica", limit=20)
        yield pair
