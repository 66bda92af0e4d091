"""The only way to open a session of PostgreSQL: for the pool, for migrations, and for sessions that a service holds itself.

Every session can write: a standby, or a server whose `default_transaction_read_only` is on, counts as away. A URL may
name several hosts (`postgresql://user@a:5432,b:5432/name`), as libpq's does; the one that can write is taken, whichever
it is at the time. `target_session_attrs=read-write` is therefore implied.
"""

import asyncio
import itertools
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from tocsin_kit.db.type_lookups import Session

Connection = asyncpg.Connection

_STAGGER: Final = 0.7
"""Seconds without an answer after which the next host, or the same one again, is tried in parallel with the silent ones.

A network that was interrupted loses the first packet of a connection, and TCP repeats it only after 1, 3 and 7 s."""
_CLIENT_SILENCE: Final = 4
"""Seconds after which this side gives up a connection whose packets are not acknowledged."""
_SERVER_SILENCE: Final = 5
"""The same for the server, which then rolls back and frees its locks."""

_SETTINGS: Final[Mapping[str, str]] = {
    "standard_conforming_strings": "on",
    "timezone": "UTC",
    "jit": "off",
    # Whatever an operator has set for the role or the database: claims and counts are written for this level. At a higher one the
    # transactions of busy tables end each other, and pages come half a minute late.
    "default_transaction_isolation": "read committed",
    # Sessions that hold a lock or listen are idle for hours, and each that is ended costs a new one.
    "idle_session_timeout": "0",
    # Every statement has an index. A plan that is made while a table is small, and then cached, reads the whole table for each
    # row given, until autovacuum runs a minute later; a storm right after an installation is over by then.
    "enable_seqscan": "off",
    # A client that is gone, or is stopped and reads nothing, loses its locks within these times, in every state of its session;
    # TCP's own time is two hours.
    "tcp_user_timeout": f"{_SERVER_SILENCE * 1000}",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": f"{_SERVER_SILENCE - 2}",
    "client_connection_check_interval": "1000",
}
# Not among the settings above: servers before PostgreSQL 17 refuse a session that names the first, and of the second only
# "off" is wrong, since the other values say how many standbys a commit waits for.
_FIRST_STATEMENT: Final = """
    SELECT CASE WHEN current_setting('transaction_timeout', true) <> '0'
                THEN set_config('transaction_timeout', '0', false) END,
           CASE WHEN current_setting('synchronous_commit') = 'off'
                THEN set_config('synchronous_commit', 'on', false) END"""
"""Some sessions hold a transaction for as long as their process runs, and a call that has OK is on disk."""


async def dial(
    url: str,
    *,
    name: str,
    timeout: float = 5.0,
    command_timeout: float | None = None,
    statement_cache_size: int = 100,
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """A session that can write; `name` shows in pg_stat_activity. Times are in seconds.

    Raises the driver's error for the last host that refused, asyncpg.TargetServerAttributeNotMatched when all hosts are
    read-only, TimeoutError when none answered.
    """
    urls = hosts_of(url)

    async def attempt(one: str) -> Connection:
        connection = await asyncpg.connect(
            one,
            timeout=timeout,
            command_timeout=command_timeout,
            statement_cache_size=statement_cache_size,
            target_session_attrs=SessionAttribute.read_write,
            connection_class=Session,
            server_settings={"application_name": name, **_SETTINGS, **(settings or {})},
        )
        _watch_network(connection)
        try:
            await connection.execute(_FIRST_STATEMENT)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async with asyncio.timeout(timeout):
        return await _race(attempt, urls)


def hosts_of(url: str) -> list[str]:
    """One URL for each host that `url` names before its path."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]


def is_read_only(connection: Connection) -> bool:
    """Whether the server said, with its last answer, that the session's transactions cannot write.

    PostgreSQL 14 and newer report both settings without being asked, so this costs no round trip.
    """
    settings = connection.get_settings()
    return "on" in (
        getattr(settings, "in_hot_standby", "off"),
        getattr(settings, "default_transaction_read_only", "off"),
    )


async def _race(attempt: Callable[[str], Coroutine[Any, Any, Connection]], urls: Sequence[str]) -> Connection:
    """The first session that one of the attempts opens. All hosts are tried; silent ones again and again."""
    pending: set[asyncio.Task[Connection]] = set()
    refused = 0
    try:
        for url in itertools.cycle(urls):
            pending.add(asyncio.create_task(attempt(url)))
            done, pending = await asyncio.wait(pending, timeout=_STAGGER, return_when=asyncio.FIRST_COMPLETED)
            failures = [failure for failure in (task.exception() for task in done) if failure is not None]
            if len(failures) < len(done):
                winner, *others = [task.result() for task in done if task.exception() is None]
                for other in others:
                    other.terminate()
                return winner
            refused += len(failures)
            if failures and refused >= len(urls) and not pending:
                raise failures[-1]
        raise AssertionError("unreachable")
    finally:
        for task in pending:
            task.add_done_callback(_drop)
            task.cancel()


def _drop(task: "asyncio.Task[Connection]") -> None:
    """A session that was opened although another attempt was faster."""
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


def _watch_network(connection: Connection) -> None:
    transport = getattr(connection, "_transport", None)  # asyncpg has no public way to it
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == socket.AF_UNIX:
        return
    options = {
        (socket.SOL_SOCKET, "SO_KEEPALIVE"): 1,
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE"): 2,
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL"): 1,
        (socket.IPPROTO_TCP, "TCP_KEEPCNT"): _CLIENT_SILENCE - 2,
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"): _CLIENT_SILENCE * 1000,
    }
    for (level, option), value in options.items():
        number = getattr(socket, option, None)  # not every system has each option
        if number is not None:
            sock.setsockopt(level, number, value)
