"""Sessions of PostgreSQL that outlive what opened them, for tests that use one database after the other.

A new session costs the server a process, which reads the catalog for each table anew, and both sides the preparation of each
statement: most of what a short test of a store takes. A session that is closed in good order is given to the next caller who
asks for one like it, as a new object: whoever closed the old one cannot use it any more. It is rid of settings, advisory locks,
cursors and listening, and keeps its prepared statements.

One that is terminated, or closed inside a transaction, is not given to anybody.
"""

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
from tocsin_kit.db import dialing
from tocsin_kit.db.known_types import Session

_RESET_SECONDS: Final = 2.0
_MOST_IDLE: Final = 6
"""Of one kind. What a storm opened would be no more than memory of the server for all tests that follow."""


class RecycledSessions:
    """The sessions of the databases that were named with `keep`, of the event loop in which this is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: dict[str, defaultdict[Hashable, list[_Recycled]]] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside the block `tocsin_kit.db.dialing.dial` uses them."""
        before, dialing.connect = dialing.connect, self.connect
        try:
            yield
        finally:
            dialing.connect = before

    def keep(self, database: str) -> None:
        """Sessions of the database with this name are kept from now on."""
        self._idle[database] = defaultdict(list)

    async def forget(self, database: str) -> None:
        """Close those that nobody uses, and keep no more."""
        idle = self._idle.pop(database)
        await asyncio.gather(*(each.end() for sessions in idle.values() for each in sessions))

    def idle(self, database: str) -> list[int]:
        """The process ids of those that nobody uses."""
        return [each.get_server_pid() for sessions in self._idle[database].values() for each in sessions]

    async def connect(self, url: str, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
        """As `asyncpg.connect`."""
        database = url.rpartition("/")[2]
        kept = self._idle.get(database)
        if kept is None or asyncio.get_running_loop() is not self._loop:
            return await asyncpg.connect(url, **options)
        settings = options.pop("server_settings", {})
        key = (url, *sorted(settings.items()), *((name, str(value)) for name, value in sorted(options.items())))
        while kept[key]:
            idle = kept[key].pop()
            if not idle.is_closed():
                return idle
        options |= {"server_settings": settings, "connection_class": _Recycled}
        session: _Recycled = await asyncpg.connect(url, **options)
        session.goes_back_to(self, database, key)
        return session

    def take_back(self, session: "_Recycled", database: str, key: Hashable) -> bool:
        """Whether it is kept for the next one."""
        if database not in self._idle or len(self._idle[database][key]) >= _MOST_IDLE:
            return False
        self._idle[database][key].append(session)
        return True


class _Recycled(Session):
    """Whoever closes it gives it back."""

    __slots__ = ("_home",)

    def goes_back_to(self, sessions: RecycledSessions, database: str, key: Hashable) -> None:
        self._home = (sessions, database, key)

    async def close(self, *, timeout: float | None = None) -> None:
        """Give it back, or end it if nobody could use it."""
        if await self._is_clean():
            sessions, database, key = self._home
            heir = self._handed_on()
            heir.goes_back_to(sessions, database, key)
            if not sessions.take_back(heir, database, key):
                await heir.end(timeout)
        else:
            await self.end(timeout)

    async def end(self, timeout: float | None = 5.0) -> None:
        """Close it for good."""
        await super().close(timeout=timeout)

    async def _is_clean(self) -> bool:
        """Rid it of what a session can keep. False for one that must not be used again."""
        if self.is_closed() or self.is_in_transaction():
            return False
        try:
            await self.reset(timeout=_RESET_SECONDS)
        except asyncio.CancelledError:
            self.terminate()
            raise
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return not self.is_closed()

    def _handed_on(self) -> "_Recycled":
        """The same session as a new object; this one is closed."""
        old: Any = self  # asyncpg's stubs have none of this
        heir: Any = _Recycled(old._protocol, old._transport, old._loop, old._addr, old._config, old._params)
        heir._protocol.set_connection(heir)
        heir._stmts_to_close, old._stmts_to_close = old._stmts_to_close, heir._stmts_to_close
        heir._stmt_cache._entries, old._stmt_cache._entries = old._stmt_cache._entries, heir._stmt_cache._entries
        for entry in heir._stmt_cache._entries.values():
            entry._cache = heir._stmt_cache
        old._protocol, old._aborted = None, True
        old._cleanup()
        kept: _Recycled = heir
        return kept
