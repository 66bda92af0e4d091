"""Databases that one test gets after the other, as if each were new.

A copy of a template costs the server 20 ms, and every session of it starts with an empty memory. Where a test has added rows
and moved the clock, the database is made like the template again for a fraction of that. Where it did more (changed the
schema, left a session), the database is dropped, and the next test gets a copy.
"""

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
from tocsin_stack.postgres import Postgres

from tocsin_testkit.busy import until_next_look, within
from tocsin_testkit.recycled import RecycledSessions

_PATIENCE: Final = 5.0
"""Seconds to clean a database. One of which a test left rows locked is dropped."""
_MOMENT: Final = 0.5
"""Seconds until the server has noticed that a session was ended."""

_TABLES: Final = """
SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
_SEQUENCES: Final = "SELECT seqrelid::regclass::text AS name FROM pg_sequence ORDER BY 1"
_CATALOGS: Final = {
    **dict.fromkeys(("pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_policy"), "true"),
    **dict.fromkeys(("pg_trigger", "pg_type", "pg_namespace", "pg_statistic", "pg_prepared_xacts"), "true"),
    "pg_proc": "oid <> 'app_now()'::regprocedure",
    "pg_database": "datname = current_database()",
    "pg_db_role_setting": "setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
}
_NEWEST: Final = "coalesce(max(xmin::text::bigint), 0)"
_SCHEMA: Final = ", ".join(
    f"(SELECT count(*) || ' ' || {'0' if name == 'pg_prepared_xacts' else _NEWEST} FROM {name} WHERE {which})"
    for name, which in _CATALOGS.items()
)
"""What every change of the schema changes: the number of rows of a catalog, or the newest transaction that wrote one."""
_RELATIONS: Final = """
SELECT row(oid, relname, relnamespace, reltype, relowner, relam, CASE relkind WHEN 'i' THEN 0 ELSE reltuples END,
  relhasrules, relhastriggers, relrowsecurity, relforcerowsecurity, relnatts, relacl, reloptions, relreplident, relchecks)::text
FROM pg_class WHERE oid >= 16384 ORDER BY oid
"""
"""Of the catalog of tables and indexes: all but what TRUNCATE changes."""
_STATE: Final = f"""
SELECT ARRAY[{_SCHEMA}] || ARRAY({_RELATIONS}) AS schema,
  (SELECT prosrc FROM pg_proc WHERE oid = 'app_now()'::regprocedure) AS clock
"""
_STRANGERS: Final = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> ALL($1::int[]) AND pid <> pg_backend_pid()
"""


class LentDatabases:
    """Copies of the databases of one server, and the sessions of them that nobody uses at the moment."""

    def __init__(self, postgres: Postgres) -> None:
        self.sessions: Final = RecycledSessions()
        self._postgres = postgres
        self._free: defaultdict[str, list[_Database]] = defaultdict(list)
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def lend(self, template: str) -> AsyncIterator[str]:
        """The owner's URL of a database that is like the template, until the block ends."""
        free = self._free[template]
        database = free.pop() if free else await self._copy(template)
        try:
            yield database.url
        finally:
            if await self._is_as_new(database):
                free.append(database)
            else:
                await self._drop(database)

    async def close(self) -> None:
        """Drop them."""
        for free in self._free.values():
            while free:
                await self._drop(free.pop())

    async def _copy(self, template: str) -> "_Database":
        name = f"lent_{template}_{next(self._numbers)}"
        url = await self._postgres.clone_database(template, name)
        self.sessions.keep(name)
        return await _look_at(name, url, await asyncpg.connect(self._postgres.url(name)))

    async def _drop(self, database: "_Database") -> None:
        await self.sessions.forget(database.name)
        await database.admin.close()
        await self._postgres.drop_database(database.name)

    async def _is_as_new(self, database: "_Database") -> bool:
        """Make it so; False when that is not possible."""
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            async with asyncio.timeout(within(_PATIENCE)):
                return await self._is_left(database) and await database.cleaned()
        return False

    async def _is_left(self, database: "_Database") -> bool:
        """Whether no session of it is in use. One that was ended is there for a moment longer."""
        began = time.monotonic()
        while await database.admin.fetchval(_STRANGERS, self.sessions.idle(database.name)):
            if time.monotonic() - began > within(_MOMENT):
                return False
            await asyncio.sleep(until_next_look(began))
        return True


@dataclass(frozen=True, slots=True)
class _Database:
    """One of them, and what it was like when it was new."""

    name: str
    url: str
    admin: "asyncpg.Connection[asyncpg.Record]"
    state: asyncpg.Record
    filled: str
    """The statement that names the tables with rows, of those that had none."""
    given: str
    """The statement that reads the rows that were there."""
    rows: list[asyncpg.Record]
    sequences: tuple[str, ...]

    async def cleaned(self) -> bool:
        """Remove rows, and set the clock and sequences back; False when there is more to be done."""
        now = await _fetchrow(self.admin, _STATE)
        if now["schema"] != self.state["schema"] or await self.admin.fetch(self.given) != self.rows:
            return False
        filled = await self.admin.fetchval(self.filled)
        # Not DELETE: where deleted rows were, new ones come in another order, and tests read many tables as they are.
        script = [f"TRUNCATE {', '.join(filled)} CASCADE"] if filled else []
        script += [f"SELECT setval('{name}', 1, false)" for name in self.sequences]
        if now["clock"] != self.state["clock"]:
            script.append(
                "CREATE OR REPLACE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE "
                f"AS $clock${self.state['clock']}$clock$"
            )
        if script:
            await self.admin.execute(";".join(script))
        return True


async def _look_at(name: str, url: str, admin: "asyncpg.Connection[asyncpg.Record]") -> _Database:
    tables = [row["name"] for row in await admin.fetch(_TABLES)]
    given = set(await admin.fetchval(_with_rows(tables)))
    read = " UNION ALL ".join(f"SELECT '{table}', t::text FROM {table} t" for table in sorted(given))
    read = f"SELECT * FROM ({read}) AS rows ORDER BY 1, 2" if read else "SELECT 1 WHERE false"
    sequences = tuple(row["name"] for row in await admin.fetch(_SEQUENCES))
    rows, state = await admin.fetch(read), await _fetchrow(admin, _STATE)
    await admin.execute(f"SET lock_timeout = '{_PATIENCE}s'")
    empty = _with_rows(table for table in tables if table not in given)
    return _Database(name, url, admin, state, empty, read, rows, sequences)


def _with_rows(tables: Iterable[str]) -> str:
    each = ", ".join(f"CASE WHEN EXISTS (SELECT FROM {table}) THEN '{table}' END" for table in tables)
    return f"SELECT array_remove(ARRAY[{each}]::text[], NULL)"


async def _fetchrow(session: "asyncpg.Connection[asyncpg.Record]", sql: str) -> asyncpg.Record:
    row = await session.fetchrow(sql)
    assert row is not None
    return row
