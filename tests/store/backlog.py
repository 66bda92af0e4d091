"""Counts what claims read of a long backlog, by plans that were made while the tables were empty.

A session keeps the plan of a statement. One that was made when nothing was due, and PostgreSQL had no statistics, is what the
first storm of an installation is worked on by. So the functions are called while there is one row, their statements are run while
there is none, and once more when there are thousands.
"""

import re
from collections.abc import Collection
from types import ModuleType
from typing import Final

import asyncpg
from tocsin_kit.db.dialing import Connection
from tocsin_kit.db.pool import _OF_ALL_TENANTS

from tests.store.fence import ROUNDS, STATEMENTS, Function, Recorder, functions_of, insert_of, laid_bare
from tests.store.made_up import CLOCK, ID, TEXT, Maker

ROWS: Final = 2000
"""Of each table: half of them of the tenant whom the calls name, the others of three. Each is a minute older than the last one."""
_READ: Final = """
SELECT sum(pg_stat_get_xact_tuples_returned(oid))::bigint FROM pg_class WHERE relkind IN ('r', 'i') AND oid >= 16384
"""
"""Entries of indexes that this transaction was given so far, and rows of tables that it walked."""

Asked = dict[tuple[str, str], list[tuple[object, ...]]]
"""By function and statement: the parameters it was run with."""


class _Asking(Recorder):
    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.asked: list[tuple[str, tuple[object, ...]]] = []

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        self.asked.append((sql, args))
        return await super().fetch(sql, *args)

    async def execute(self, sql: str, *args: object) -> str:
        self.asked.append((sql, args))
        return await super().execute(sql, *args)


async def most_read(url: str, package: ModuleType, claims: Collection[str], more: Asked) -> dict[str, int]:
    """By function, what its statement that reads most has read when one row was asked for; `more` are run beside those of `claims`.

    The database must be a copy that no other test uses.
    """
    functions = {name: function for name, function in functions_of(package).items() if name in claims}
    assert functions.keys() == set(claims), "the list names functions that exist"
    connection = await asyncpg.connect(url, statement_cache_size=STATEMENTS)
    try:
        tables = await laid_bare(connection)
        await connection.execute(_OF_ALL_TENANTS)
        asked = {**await _asked(connection, functions, tables), **more}
        await connection.execute(f"TRUNCATE {', '.join(tables)}")
        async with connection.transaction():
            for (_, sql), given in asked.items():
                await _read_by(connection, sql, given[0])
            for name, columns in tables.items():
                await connection.execute(_fill(name, columns))
            found = dict.fromkeys((name for name, _ in asked), 0)
            for (name, sql), given in asked.items():
                found[name] = max(found[name], *[await _read_by(connection, sql, args) for args in given])
            return found
    finally:
        await connection.close()


async def _asked(
    connection: Connection, functions: dict[str, Function], tables: dict[str, list[asyncpg.Record]]
) -> Asked:
    """A row in each table leads the functions past their first statement."""
    asked: Asked = {}
    for number in range(ROUNDS):
        maker = Maker(number)
        async with _Undone(connection):
            for name, columns in tables.items():
                await connection.execute(insert_of(name, columns, TEXT, number))
            for name, function in functions.items():
                recorder = _Asking(connection)
                async with _Undone(connection):
                    await function(recorder, **maker.arguments(function))
                for sql, args in recorder.asked:
                    asked.setdefault((name, sql), []).append(args)
    return asked


class _Undone:
    """A transaction, or a part of one, of which nothing is left; errors of made-up values are no matter."""

    def __init__(self, connection: Connection) -> None:
        self._transaction = connection.transaction()

    async def __aenter__(self) -> None:
        await self._transaction.start()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        await self._transaction.rollback()
        return isinstance(error, Exception)


async def _read_by(connection: Connection, sql: str, args: tuple[object, ...]) -> int:
    """Raises what PostgreSQL says against the statement: nothing is learnt of one that did not run."""
    before = await connection.fetchval(_READ)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.fetch(sql, *args)
        return int(await connection.fetchval(_READ)) - int(before)
    finally:
        await transaction.rollback()


def _fill(table: str, columns: list[asyncpg.Record]) -> str:
    """Rows whose states, flags and absent values are mixed by chance, the same in each run."""
    names = ", ".join(column["column"] for column in columns)
    values = ", ".join(_value(column, place) for place, column in enumerate(columns))
    return (
        f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM generate_series(0, {ROWS - 1}) AS g "
        "ON CONFLICT DO NOTHING"
    )


def _value(column: asyncpg.Record, place: int) -> str:
    name, kind = column["column"], column["type"]
    if name == "org_id":
        return f"CASE WHEN g % 2 = 0 THEN '{TEXT}' ELSE 'b' || g % 6 END"
    value = _of_type(name, kind, " ".join(column["checks"]), f"abs(hashint4(g * 37 + {place}))")
    optional = not column["required"] and place > 0
    return f"CASE WHEN hashint4(g * 31 + {place}) & 1 = 1 THEN {value} END" if optional else value


def _of_type(name: str, kind: str, checks: str, chance: str) -> str:
    words = ["webhook", "sms", "email"] if name == "channel" else re.findall(r"'(\w*)'::text", checks)
    if kind == "text" and words:
        return f"(ARRAY{words}::text[])[1 + {chance} % {len(words)}]"
    return {
        "uuid": f"CASE WHEN g = 0 THEN '{ID}'::uuid ELSE md5(g::text)::uuid END",
        "timestamp with time zone": f"'{CLOCK.isoformat()}'::timestamptz - g * interval '1 minute'",
        "text": f"'{TEXT}'" if name in ("queue", "kind", "type", "frequency") else f"concat('{TEXT}', nullif(g, 0))",
        "boolean": f"{chance} % 2 = 1",
        "smallint": f"({chance} % 3)::smallint",
        "integer": "g",
        "bigint": "g",
        "double precision": "g",
        "bytea": "decode(md5(g::text), 'hex')",
        "jsonb": "'{}'::jsonb",
        "interval": "'1 second'::interval",
        "date": f"'{CLOCK.date().isoformat()}'::date",
        "bit(96)": "repeat('1', 96)::bit(96)",
    }.get(kind, f"'{{}}'::{kind}")
