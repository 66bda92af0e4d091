"""A database that tests use one after the other: each finds it empty, as a clone would be, and its sessions warm.

What is saved is not the clone alone. A session of a new database knows no catalog and has no statement planned, which costs the
server more than what most tests ask of it. So sessions that a test closes are lent to the next one (`Sessions`).
"""

import asyncio
import itertools
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

import asyncpg
import pytest
from tocsin_stack.postgres import Postgres
from tocsin_testkit.busy import within
from tocsin_testkit.clock import clock_reads

_NUMBERS: Final = itertools.count()
"""Of all databases of a process: several folders of tests have one of these for the same service."""
_MOST: Final = 100
"""Tests that share one: rows that were deleted stay in its files, as no autovacuum comes by."""
_MOST_KEPT: Final = 12
"""Sessions of one kind."""
_LONGEST: Final = 2.0
"""Seconds that emptying may take. What a test left open may hold a row: then the database is given up."""
_OURS: Final = "NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)"
_BUSY: Final = """
SELECT EXISTS (SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid() AND backend_type = 'client backend')
"""
_CLOCK: Final = "SELECT prosrc FROM pg_proc WHERE proname = 'app_now'"
_TABLES: Final = f"SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace {_OURS} ORDER BY 1"
_SCHEMA: Final = f"""
SELECT sum(changed::text::bigint), count(*) FROM (
  SELECT xmin AS changed FROM pg_class WHERE relnamespace {_OURS}
  UNION ALL SELECT xmin FROM pg_policy
  UNION ALL SELECT xmin FROM pg_trigger
  UNION ALL SELECT xmin FROM pg_db_role_setting
) AS entries
"""
"""Differs after each change of a table, an index, a sequence, a row rule, a trigger or a setting of a database."""


class Emptied:
    """Databases of one service."""

    def __init__(self, postgres: Postgres, template: str, prefix: str) -> None:
        self._postgres = postgres
        self._template = template
        self._prefix = prefix
        self._sessions = Sessions()
        self._kept: _Place | None = None

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[str]:
        """The URL of an empty database, which an earlier test may have had."""
        place = self._kept or await self._begin()
        self._kept = None
        try:
            with self._sessions.kept_of(place.url):
                yield place.url
        except BaseException:
            await self._end(place)
            raise
        place.used += 1
        if place.used < _MOST and await place.is_emptied():
            self._kept = place
        else:
            await self._end(place)

    @asynccontextmanager
    async def own(self) -> AsyncIterator[str]:
        """The URL of a clone that no other test has: for one that changes more than rows."""
        name, url = await self._clone()
        yield url
        await self._postgres.drop_database(name)

    async def close(self) -> None:
        """End what is kept."""
        if self._kept is not None:
            await self._end(self._kept)

    async def _begin(self) -> "_Place":
        name, url = await self._clone()
        place = _Place(name, url, await asyncpg.connect(self._postgres.url(name)))
        await place.look()
        return place

    async def _end(self, place: "_Place") -> None:
        place.session.terminate()
        self._sessions.end()
        await self._postgres.drop_database(place.name)

    async def _clone(self) -> tuple[str, str]:
        name = f"{self._prefix}_{next(_NUMBERS)}"
        return name, await self._postgres.clone_database(self._template, name)


class _Place:
    """Emptied through a superuser's session: neither row rules nor triggers nor foreign keys are in its way."""

    def __init__(self, name: str, url: str, session: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.name = name
        self.url = url
        self.session = session
        self.used = 0
        self._filled = ""
        self._clock = ""
        self._schema: list[asyncpg.Record] = []

    async def look(self) -> None:
        """At the new clone. What its migrations have put into tables is kept."""
        await self.session.execute("SET session_replication_role = replica")
        names = [row[0] for row in await self.session.fetch(_TABLES)]
        kept = set(await self.session.fetchval(_filled(names)))
        self._filled = _filled([name for name in names if name not in kept])
        self._clock = await self.session.fetchval(_CLOCK)
        self._schema = await self.session.fetch(_SCHEMA)

    async def is_emptied(self) -> bool:
        """Delete all rows and put the clock back. False: the database is not as it was."""
        try:
            async with asyncio.timeout(within(_LONGEST)):
                if await self.session.fetchval(_BUSY) or await self.session.fetch(_SCHEMA) != self._schema:
                    return False
                if filled := await self.session.fetchval(self._filled):
                    await self.session.execute(";".join(f"DELETE FROM {name}" for name in filled))
                if await self.session.fetchval(_CLOCK) != self._clock:
                    await self.session.execute(clock_reads(self._clock.strip().removeprefix("SELECT ")))
                return not await self.session.fetchval(self._filled)
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return False


class Sessions:
    """Sessions of lent databases that were closed, for those who open one with the same arguments.

    A session that is ended in another way (`terminate`, or by the server) or closed within a transaction is not kept.
    """

    def __init__(self) -> None:
        self._idle: defaultdict[str, list[asyncpg.Connection[Any]]] = defaultdict(list)
        self._lent: WeakKeyDictionary[asyncpg.Connection[Any], str] = WeakKeyDictionary()
        """By their arguments. Weak, so that one which is never closed is told of, as always."""

    @contextmanager
    def kept_of(self, url: str) -> Iterator[None]:
        """While the block runs, sessions of this database are taken from here and given back."""
        place = url.partition("@")[2]
        loop = asyncio.get_running_loop()
        connect, close = asyncpg.connect, asyncpg.Connection.close

        async def take(dsn: str = "", **options: Any) -> Any:
            if dsn.partition("@")[2] != place or asyncio.get_running_loop() is not loop:
                return await connect(dsn, **options)
            kind = f"{dsn} {options}"
            while self._idle[kind]:
                session = self._idle[kind].pop()
                if not session.is_closed():
                    break
            else:
                session = await connect(dsn, **options)
            self._lent[session] = kind
            return session

        async def give_back(session: "asyncpg.Connection[Any]", *, timeout: float | None = None) -> None:
            kind = self._lent.pop(session, "")
            if (
                kind
                and not session.is_closed()
                and not session.is_in_transaction()
                and len(self._idle[kind]) < _MOST_KEPT
            ):
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                    await session.reset(timeout=timeout)
                    self._idle[kind].append(session)
                    return
            await close(session, timeout=timeout)

        with pytest.MonkeyPatch.context() as patch:
            if "JITTER" not in os.environ:  # which replaces what sessions do
                patch.setattr(asyncpg, "connect", take)
                patch.setattr(asyncpg.Connection, "close", give_back)
            yield

    def end(self) -> None:
        """End all of them."""
        for session in itertools.chain.from_iterable(self._idle.values()):
            session.terminate()
        self._idle.clear()


def _filled(names: Iterable[str]) -> str:
    """The statement that names those which have rows."""
    parts = ", ".join(f"CASE WHEN EXISTS (SELECT FROM {name}) THEN '{name}' END" for name in names)
    return f"SELECT array_remove(ARRAY[{parts}], NULL)"
