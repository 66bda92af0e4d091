"""A database, its pool and its owner's session that tests use one after the other: each finds it empty, as a clone would be.

What is saved is not the clone alone. Sessions that are kept know the catalogs and have their statements planned, while those of
a new database begin with nothing.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from tocsin_kit.db.pool import Database
from tocsin_stack.postgres import Postgres, tenant_url
from tocsin_testkit.busy import within
from tocsin_testkit.clock import clock_reads
from tocsin_testkit.databases import dialed
from tocsin_testkit.owner_sessions import OwnerSessions

_MOST: Final = 100
"""Tests that share one: rows that were deleted stay in its files, as no autovacuum comes by."""
_LONGEST: Final = 2.0
"""Seconds that emptying may take. What a test left open may hold a row: then the database is given up."""
_BUSY: Final = """
SELECT EXISTS (SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid() AND backend_type = 'client backend')
"""
_CLOCK: Final = "SELECT prosrc FROM pg_proc WHERE proname = 'app_now'"
_TABLES: Final = """
SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1
"""
_SCHEMA: Final = """
SELECT sum(changed::text::bigint), count(*) FROM (
  SELECT xmin AS changed FROM pg_class WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT xmin FROM pg_policy
  UNION ALL SELECT xmin FROM pg_trigger
  UNION ALL SELECT xmin FROM pg_db_role_setting
) AS entries
"""
"""Differs after each change of a table, an index, a sequence, a row rule, a trigger or a setting of a database."""


class Place:
    """A database for one test at a time."""

    def __init__(self, name: str, url: str, db: Database, sessions: OwnerSessions) -> None:
        self.name = name
        self.url = url
        self.db = db
        self.sessions = sessions
        self.used = 0


class Emptied:
    """Databases of one service. Tests that change more than rows take a clone of their own (`own`)."""

    def __init__(self, postgres: Postgres, template: str, prefix: str, *, size: int) -> None:
        self._postgres = postgres
        self._template = template
        self._prefix = prefix
        self._size = size
        self._numbers = itertools.count()
        self._kept: tuple[Place, _Emptying] | None = None

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Place]:
        """An empty database, which an earlier test may have had."""
        place, emptying = self._kept or await self._begin()
        self._kept = None
        try:
            yield place
        except BaseException:
            await self._end(place, emptying)
            raise
        place.used += 1
        if place.used < _MOST and await emptying.succeeds():
            self._kept = place, emptying
            return
        await self._end(place, emptying)

    @asynccontextmanager
    async def own(self) -> AsyncIterator[Place]:
        """A clone that no other test has."""
        place = await self._clone()
        try:
            yield place
        finally:
            await self._drop(place)

    async def close(self) -> None:
        """End the sessions."""
        if self._kept is not None:
            await self._end(*self._kept)
            self._kept = None

    async def _begin(self) -> "tuple[Place, _Emptying]":
        place = await self._clone()
        session = await asyncpg.connect(self._postgres.url(place.name))
        return place, await _Emptying.of(session)

    async def _end(self, place: Place, emptying: "_Emptying") -> None:
        await emptying.close()
        await self._drop(place)

    async def _clone(self) -> Place:
        name = f"{self._prefix}_{next(self._numbers)}"
        url = await self._postgres.clone_database(self._template, name)
        db = await dialed(url, name=f"{self._prefix}-test", tenant_url=tenant_url(url), size=self._size)
        return Place(name, url, db, OwnerSessions())

    async def _drop(self, place: Place) -> None:
        await place.sessions.close()
        await place.db.close()
        await self._postgres.drop_database(place.name)


class _Emptying:
    """Through a superuser's session: neither row rules nor triggers nor foreign keys are in the way of it."""

    def __init__(self, session: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._session = session
        self._filled = ""
        self._clock = ""
        self._schema: tuple[object, ...] = ()

    @classmethod
    async def of(cls, session: "asyncpg.Connection[asyncpg.Record]") -> "_Emptying":
        """Of a new clone. What its migrations have put into tables is kept."""
        made = cls(session)
        await session.execute("SET session_replication_role = replica")
        names = [row[0] for row in await session.fetch(_TABLES)]
        parts = ", ".join(f"CASE WHEN EXISTS (SELECT FROM {name}) THEN '{name}' END" for name in names)
        filled = set(await session.fetchval(f"SELECT array_remove(ARRAY[{parts}], NULL)"))
        parts = ", ".join(
            f"CASE WHEN EXISTS (SELECT FROM {name}) THEN '{name}' END" for name in names if name not in filled
        )
        made._filled = f"SELECT array_remove(ARRAY[{parts}], NULL)"
        made._clock = await session.fetchval(_CLOCK)
        made._schema = tuple((await session.fetch(_SCHEMA))[0])
        return made

    async def succeeds(self) -> bool:
        """Delete all rows and put the clock back. False: the database is not as it was."""
        try:
            async with asyncio.timeout(within(_LONGEST)):
                if (
                    await self._session.fetchval(_BUSY)
                    or tuple((await self._session.fetch(_SCHEMA))[0]) != self._schema
                ):
                    return False
                if filled := await self._session.fetchval(self._filled):
                    await self._session.execute(";".join(f"DELETE FROM {name}" for name in filled))
                if await self._session.fetchval(_CLOCK) != self._clock:
                    await self._session.execute(clock_reads(self._clock.strip().removeprefix("SELECT ")))
                return not await self._session.fetchval(self._filled)
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return False

    async def close(self) -> None:
        """End the session."""
        self._session.terminate()
