"""Where the Redis is: one server, one behind Sentinel, or a Cluster."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, Sentinel
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from tocsin_timers.cluster import ClusterClient
from tocsin_timers.packing import PackedConnection
from tocsin_timers.scripts import Client


@dataclass(frozen=True, slots=True)
class Connections:
    """Two long-lived clients of the same Redis.

    `commands` gives up after a short time, so that a sender learns soon that Redis is away; `blocking` waits inside
    Redis for up to `block` seconds and gives up a little later.
    Neither retries by itself: a repeated XADD is a doubled message, so whoever may repeat decides that itself.
    """

    commands: Client
    blocking: Client

    @classmethod
    def from_url(cls, url: str, *, command_timeout: float, block: float) -> "Connections":
        """Accepted: `redis://[user:password@]host:port/db`, `rediss://`, `unix://`; `redis+cluster://host:port`
        (any node); `redis+sentinel://host:port,host:port/service/db`. The user and password of the last two are those
        of the data nodes. Connecting happens with the first command. Raises ValueError for anything else.
        """
        return cls(
            _client(url, command_timeout, command_timeout), _client(url, command_timeout, block + command_timeout + 1)
        )

    async def close(self) -> None:
        for client in (self.commands, self.blocking):
            await client.aclose()
            # A client made by a Sentinel does not close the connections to the sentinels.
            pool = getattr(client, "connection_pool", None)
            if isinstance(pool, SentinelConnectionPool):
                for sentinel in pool.sentinel_manager.sentinels:
                    await sentinel.aclose()


def _client(url: str, connect_timeout: float, read_timeout: float) -> Client:
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout,
        "socket_timeout": read_timeout,
        "socket_keepalive": True,
        "protocol": 2,
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
            db=int(database or 0),
            username=unquote(user) or None,
            password=unquote(password) or None,
            **options,
        )
        assert isinstance(client, Redis)
        return client
    if scheme == "redis":
        return Redis.from_url(url, connection_class=PackedConnection, **options)
    if scheme == "rediss":
        return Redis.from_url(url, **options)
    if scheme == "unix":
        del options["socket_keepalive"]  # there is none, and redis-py refuses it
        return Redis.from_url(url, **options)
    raise ValueError(f"unknown kind of Redis URL: {scheme}://")


def _host(entry: str) -> tuple[str, int]:
    host, _, port = entry.rpartition(":")
    return (host, int(port)) if host else (port, 26379)
