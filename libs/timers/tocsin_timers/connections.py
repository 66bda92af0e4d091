"""Where the Redis is: one server, one behind Sentinel, or a Cluster."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis.asyncio import Sentinel
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.maint_notifications import MaintNotificationsConfig

from tocsin_timers.circuit import Circuit, GuardedRedis
from tocsin_timers.cluster import ClusterClient
from tocsin_timers.packing import PackedConnection
from tocsin_timers.scripts import Client

_DRIVER: Final = DriverInfo()
"""Made once: without it redis-py looks up in its package's files, for each connection, which version it is."""
PROBE_CONNECT_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 5.0
"""A stopped server answers the waiting probe the moment it goes on. After a black hole, TCP repeats what it sent within
this time at most two seconds later."""
_PROBED: Final = "tocsin-timers:probe"
"""A user that may not write it is told so at once, which is an answer as well."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Long-lived clients of the same Redis.

    `commands` gives up after a short time, so that a sender learns soon that Redis is away; `blocking` waits inside
    Redis for up to `block` seconds and gives up a little later.
    Neither retries by itself: a repeated XADD is a doubled message, so a caller that may repeat decides that itself.
    """

    commands: Client
    blocking: Client
    circuit: Circuit | None
    """Of both. None on a Cluster, where one master may hang while the others answer."""
    probe: Client | None
    """What this circuit asks with; None where it is another broker's."""

    @classmethod
    def from_url(
        cls, url: str, *, command_timeout: float, block: float, circuit: Circuit | None = None
    ) -> "Connections":
        """Accepted: `redis://[user:password@]host:port/db`, `rediss://`, `unix://`; `redis+cluster://host:port`
        (any node); `redis+sentinel://host:port,host:port/service/db`. The user and password of the last two are those
        of the data nodes. Connecting happens with the first command. Raises ValueError for anything else.
        """
        commands = _client(url, command_timeout, command_timeout)
        blocking = _client(url, command_timeout, block + command_timeout + 1)
        if not isinstance(commands, GuardedRedis) or not isinstance(blocking, GuardedRedis):
            return cls(commands, blocking, None, None)
        probe = None
        if circuit is None:
            probe = _client(url, PROBE_CONNECT_SECONDS, PROBE_SECONDS)
            circuit = Circuit(lambda: _ask(probe), lambda: _drop_idle(commands, blocking))
        commands.circuit = blocking.circuit = circuit
        return cls(commands, blocking, circuit, probe)

    async def close(self) -> None:
        """End what is open. A circuit is closed by the broker that made it."""
        if self.circuit is not None and self.probe is not None:
            await self.circuit.close()
        for client in (self.commands, self.blocking, self.probe):
            if client is None:
                continue
            await client.aclose()
            # A client made by a Sentinel does not close the connections to the sentinels.
            pool = getattr(client, "connection_pool", None)
            if isinstance(pool, SentinelConnectionPool):
                for sentinel in pool.sentinel_manager.sentinels:
                    await sentinel.aclose()


async def _ask(probe: Client) -> None:
    # A write: while an operator pauses writes (CLIENT PAUSE … WRITE, FAILOVER) a PING is answered, and each write hangs.
    try:
        await probe.execute_command("SET", _PROBED, "1", "PX", 1000)
    finally:
        await _drop_idle(probe)  # the next probe looks anew where the server is


async def _drop_idle(*clients: Client) -> None:
    for client in clients:
        if isinstance(client, GuardedRedis):
            await client.connection_pool.disconnect(inuse_connections=False)


def _client(url: str, connect_timeout: float, read_timeout: float) -> Client:
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout,
        "socket_timeout": read_timeout,
        "socket_keepalive": True,
        "protocol": 2,
        "driver_info": _DRIVER,
    }
    scheme, _, rest = url.partition("://")
    if scheme == "redis+cluster":
        return ClusterClient.from_url(f"redis://{rest}", **options)
    # redis-py 8 does not look for dead pooled connections while it waits for maintenance notices: the first command
    # after a restart of the server would fail.
    options |= {"retry": Retry(NoBackoff(), 0), "maint_notifications_config": MaintNotificationsConfig(enabled=False)}
    if scheme == "redis+sentinel":
        parts = urlsplit(url)
        hosts = [_host(entry) for entry in parts.netloc.rpartition("@")[2].split(",")]
        service, _, database = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError("a redis+sentinel URL ends in /service or /service/db")
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        sentinel = Sentinel(hosts, sentinel_kwargs={"socket_timeout": connect_timeout, "protocol": 2})  # type: ignore[no-untyped-call]
        client = sentinel.master_for(
            service,
            redis_class=GuardedRedis,
            db=int(database or 0),
            username=unquote(user) or None,
            password=unquote(password) or None,
            **options,
        )
        assert isinstance(client, GuardedRedis)
        return client
    if scheme == "redis":
        return GuardedRedis.from_url(url, connection_class=PackedConnection, **options)
    if scheme == "rediss":
        return GuardedRedis.from_url(url, **options)
    if scheme == "unix":
        del options["socket_keepalive"]  # there is none, and redis-py refuses it
        return GuardedRedis.from_url(url, **options)
    raise ValueError(f"unknown kind of Redis URL: {scheme}://")


def _host(entry: str) -> tuple[str, int]:
    host, _, port = entry.rpartition(":")
    return (host, int(port)) if host else (port, 26379)
