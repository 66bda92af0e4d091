"""Calls every function of a service's store without row security, and tells which of them see another tenant's rows.

A function is called as tenant `a` three times: with empty tables, with rows of `b`, and with rows of `a`. All ids, names
and texts of the rows are those that the call names, so only `org_id` tells the two tenants apart. What `b` has must
change no answer and must not be changed.
"""

import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import Any, Final

import asyncpg
from tocsin_kit.db.dialing import Connection
from tocsin_kit.db.statements import Filtered, Statement
from tocsin_testkit.clock import clock_reads

from tests.store.made_up import CLOCK, ID, TEXT, Maker

ROUNDS: Final = 6
"""Each with other states, flags, times and absent values."""
STATEMENTS: Final = 2_000
"""More than a service has. Each is called dozens of times in turn, and with asyncpg's hundred none would still be prepared."""
FILLED: Final = "SAVEPOINT filled"
AS_FILLED: Final = "ROLLBACK TO SAVEPOINT filled"
"""After each function. It stays where it is, which saves a round trip for each of thousands of calls."""
_NOW, _AHEAD, _LONG_AGO = timedelta(), timedelta(days=2), timedelta(days=-800)
_LATELY: Final = _NOW, _NOW
_TIMES: Final = (_NOW, _AHEAD), _LATELY, (_AHEAD, _AHEAD), _LATELY, (_LONG_AGO, _LONG_AGO), (_NOW, _AHEAD)
"""By round, when the rows begin and when they end, from `CLOCK`; the database's clock is an hour later. So what a statement
asks for is there in some round: what goes on, is to come, is over, or ended so long ago that it is deleted."""
_ENDS: Final = re.compile(r"(?:^|_)(?:end|until|expire|due|next|stop|delete|report|look)(?:_|$)")
"""Columns that say when something is over, or is to be done."""
_MINE: Final = TEXT
_THEIRS: Final = "b"
_FRAGMENTS: Final = {
    "tocsin_ingest.store.alerts.writing._REWRITE",
    "tocsin_ingest.store.alerts.writing._APPEND",
    "tocsin_notify.store.delivery.notifications._REPORTS",
    "tocsin_notify.store.delivery.reads._DEAD",
}
"""Parts of statements, which cannot be prepared."""
_STATEMENT: Final = re.compile(r"\s*(SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM)\s")
_TABLES: Final = """
SELECT c.oid::regclass::text AS name, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
  a.attnotnull AS required,
  ARRAY(SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
        WHERE k.conrelid = c.oid AND k.contype = 'c' AND a.attnum = ANY(k.conkey) AND cardinality(k.conkey) = 1) AS checks
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
  AND EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = c.oid AND o.attname = 'org_id')
ORDER BY c.relname, a.attnum
"""
_WRITTEN: Final = """
SELECT sum(pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid) + pg_stat_get_xact_tuples_deleted(oid))
FROM pg_class WHERE relkind = 'r' AND oid >= 16384
"""
"""How many rows this transaction has written so far, also of those that were rolled back. Reading all rows after each call would
take most of the time, and most functions only read."""
_CHECKS: Final = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
WHERE contype = 'c' AND connamespace = 'public'::regnamespace AND conrelid <> 0
"""
_VALUES: Final = {
    "uuid": f"'{ID}'",
    "jsonb": "'{}'",
    "bytea": r"'\x00'",
    "boolean": "true",
    "text[]": f"'{{{TEXT}}}'",
    "smallint[]": "'{1}'",
    "uuid[]": f"'{{{ID}}}'",
    "interval": "'1 second'",
    "date": f"'{CLOCK.date().isoformat()}'",
    "bit(96)": "repeat('1', 96)::bit(96)",
    "timestamp with time zone[]": f"'{{{CLOCK.isoformat()}}}'",
}

Function = Callable[..., Coroutine[Any, Any, object]]


class Recorder:
    """Stands where a function of the store expects its transaction; keeps each statement with its answer."""

    def __init__(self, connection: Connection) -> None:
        self.org_id = _MINE
        self.seen: list[tuple[str, object]] = []
        self._connection = connection

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        rows = await self._connection.fetch(sql, *args)
        self.seen.append((sql, [_values(row) for row in rows]))
        return rows

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *args: object) -> object:
        row = await self.fetchrow(sql, *args)
        return row[0] if row else None

    async def execute(self, sql: str, *args: object) -> str:
        tag = await self._connection.execute(sql, *args)
        self.seen.append((sql, tag))
        return tag

    async def executemany(self, sql: str, rows: list[list[object]]) -> None:
        await self._connection.executemany(sql, rows)
        self.seen.append((sql, None))

    async def now(self) -> object:
        return CLOCK

    def _live(self) -> Connection:
        """For `OneRoundTrip`, which sends what it gathered by this."""
        return self._connection

    def know(self, now: object) -> None:
        """It is known already."""

    def after_commit(self, function: object) -> None:
        """Nothing is committed."""


@dataclass
class Findings:
    """What the calls showed, as `module.function`."""

    foreign: dict[str, str] = field(default_factory=dict)
    """Saw or changed a row of the other tenant: the statement."""
    functions: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    """Ran a statement to its end in at least one round."""
    own: set[str] = field(default_factory=set)
    """Saw or changed a row of their own tenant, so that their answers say something about the fence."""

    def check(self, across_tenants: Collection[str], *, not_called: Collection[str]) -> None:
        """Raises AssertionError unless the functions of system work in `across_tenants` alone see another tenant's rows."""
        unnamed = {name: sql for name, sql in self.foreign.items() if name not in across_tenants}
        assert not unnamed, "these see or change rows of another tenant"
        assert self.functions - self.called == set(not_called), self.functions - self.called
        assert self.functions >= set(across_tenants), "the list names functions that exist"
        assert len(self.own) > len(self.functions) * 0.7, "the rows are such that most statements could find them"


async def find_foreign(admin_url: str, package: ModuleType) -> Findings:
    """Calls the functions of `package` that take a transaction. The database must be a copy that no other test uses."""
    functions = functions_of(package)
    findings = Findings(functions=set(functions))
    connection = await asyncpg.connect(admin_url, statement_cache_size=STATEMENTS)
    try:
        tables = await laid_bare(connection)
        await _prepare(connection, package)
        for number in range(ROUNDS):
            maker = Maker(number)
            empty, _ = await _calls(connection, functions, maker)
            findings.called.update(name for name in functions if any(sql != "error" for sql, _ in empty[name]))
            for org in (_THEIRS, _MINE):
                fill = [insert_of(name, columns, org, number, _TIMES[number]) for name, columns in tables.items()]
                seen, changed = await _calls(connection, functions, maker, fill, _digest(tables, org))
                for name in functions:
                    different = changed.get(name) or _difference(empty[name], seen[name])
                    if different and org == _THEIRS:
                        findings.foreign.setdefault(name, different)
                    elif different:
                        findings.own.add(name)
    finally:
        await connection.close()
    return findings


async def laid_bare(connection: Connection) -> dict[str, list[asyncpg.Record]]:
    """The tables of tenants, which take any row from now on; the clock stands an hour after `CLOCK`."""
    await connection.execute(clock_reads(f"'{CLOCK.isoformat()}'::timestamptz + interval '1 hour'"))
    tables = await _tables(connection)  # before the checks go: they say which states a row can have
    for row in await connection.fetch(_CHECKS):
        await connection.execute(row[0])
    await connection.execute("SET session_replication_role = replica")  # no foreign keys, no triggers
    return tables


async def find_denied(url: str, package: ModuleType) -> set[str]:
    """Functions with a statement that the login of `url` has no right to run."""
    denied = set[str]()
    connection = await asyncpg.connect(url, statement_cache_size=STATEMENTS)
    try:
        for name, function in functions_of(package).items():
            transaction = connection.transaction()
            await transaction.start()
            try:
                await function(Recorder(connection), **Maker(0).arguments(function))
            except asyncpg.InsufficientPrivilegeError as error:
                if "permission denied" in str(error):  # and not a row policy's no to a made-up row
                    denied.add(name)
            except Exception:
                pass  # the values are made up: this is about rights, which are looked at first
            await transaction.rollback()
    finally:
        await connection.close()
    return denied


async def _calls(
    connection: Connection,
    functions: dict[str, Function],
    maker: Maker,
    fill: list[str] | None = None,
    digest: str = "",
) -> tuple[dict[str, list[tuple[str, object]]], dict[str, str]]:
    """What each function saw, and which of them changed the rows that were there."""
    seen: dict[str, list[tuple[str, object]]] = {}
    changed: dict[str, str] = {}
    outer = connection.transaction()
    await outer.start()
    await connection.execute(";".join([*(fill or ()), FILLED]))
    before = await connection.fetchval(digest) if digest else None
    written = await connection.fetchval(_WRITTEN)
    for name, function in functions.items():
        recorder = Recorder(connection)
        lost = False
        try:
            await function(recorder, **maker.arguments(function))
        except asyncpg.PostgresError as error:
            recorder.seen.append(("error", type(error).__name__))
            lost = True
        except Exception:
            # The rows are made up, so code behind a statement may stumble over them. What it ran until then is compared;
            # that it ran something is what `called` is for.
            lost = False
        earlier = written
        if digest and not lost:
            written = await connection.fetchval(_WRITTEN)
        if written != earlier and await connection.fetchval(digest) != before:
            changed[name] = "; ".join(sql for sql, _ in recorder.seen)
        await connection.execute(AS_FILLED)
        seen[name] = recorder.seen
    await outer.rollback()
    return seen, changed


def _difference(empty: list[tuple[str, object]], seen: list[tuple[str, object]]) -> str:
    """The first statement whose answer is another one than with empty tables.

    Ids are unique over all tenants, so an INSERT may meet the other tenant's; what it changes is compared apart.
    """
    for (first, nothing), (second, answer) in zip(empty, seen, strict=False):
        if first != second or "INSERT INTO" in first or "error" in (first, second):
            break
        if nothing != answer:
            return first
    return ""


def functions_of(package: ModuleType) -> dict[str, Function]:
    """By `module.function`, and by `module.object.method` for what a module keeps ready."""
    found: dict[str, Function] = {}
    for module in _modules(package):
        prefix = module.__name__.rpartition(".")[2]
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                found[f"{prefix}.{name}"] = value
            elif type(value).__module__.startswith(f"{package.__name__}."):
                methods = inspect.getmembers(value, inspect.ismethod)
                found.update((f"{prefix}.{name}.{method}", function) for method, function in methods)
    return {name: function for name, function in found.items() if _takes_transaction(function)}


def _takes_transaction(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) and next(iter(inspect.signature(function).parameters), "") == "tx"


def _modules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(each.name) for each in found]


async def _prepare(connection: Connection, package: ModuleType) -> None:
    """Every statement that is a constant, also of classes that are not called here, fits the migrated tables."""
    for module in _modules(package):
        for name, value in vars(module).items():
            texts = _texts(value)
            if f"{module.__name__}.{name}" in _FRAGMENTS or name.startswith("__"):
                continue
            for text in (
                part for each in texts for part in re.split(r";\s*(?:\n|$)|;(?=SELECT)", each) if _STATEMENT.match(part)
            ):
                try:
                    await connection.prepare(text)
                except asyncpg.PostgresError as error:
                    raise AssertionError(f"{module.__name__}.{name} does not fit the database: {error}") from error


def _texts(value: object) -> list[str]:
    """The statements that a constant is or holds. Of one with filters: without them, with each of one parameter, and with all."""
    if isinstance(value, Statement):
        return [value.sql]
    if isinstance(value, Filtered):
        given: list[Iterable[str]] = [(), *([name] for name in sorted(value.names)), value.names]
        return [value(**dict.fromkeys(value.names) | dict.fromkeys(each, 0))[0] for each in given]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    return [value] if isinstance(value, str) else []


async def _tables(connection: Connection) -> dict[str, list[asyncpg.Record]]:
    tables: dict[str, list[asyncpg.Record]] = defaultdict(list)
    for row in await connection.fetch(_TABLES):
        tables[row["name"]].append(row)
    return tables


def insert_of(
    table: str, columns: list[asyncpg.Record], org: str, number: int, times: tuple[timedelta, timedelta] = _LATELY
) -> str:
    """`times`: when the row begins and when it ends, from `CLOCK`."""
    names = ", ".join(column["column"] for column in columns)
    values = ", ".join(
        f"'{org}'" if column["column"] == "org_id" else _value(column, number, times) for column in columns
    )
    return f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})"


def _value(column: asyncpg.Record, number: int, times: tuple[timedelta, timedelta]) -> str:
    if not column["required"] and number % 3 == 2:
        return "NULL"
    if column["column"] == "channel":
        return "'webhook'"
    if column["type"] == "text":
        allowed = re.findall(r"'(\w*)'::text", " ".join(column["checks"])) or [TEXT]
        return f"'{allowed[number % len(allowed)]}'"
    if column["type"] == "boolean":
        return "true" if number % 2 else "false"
    if column["type"] == "timestamp with time zone":
        begin, end = times
        return f"'{(CLOCK + (end if _ENDS.search(column['column']) else begin)).isoformat()}'"
    return _VALUES.get(column["type"], "1")


def _digest(tables: Iterable[str], org: str) -> str:
    """All rows of a tenant."""
    each = [
        f"(SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t::text), '[]') FROM {name} t WHERE org_id = '{org}')"
        for name in tables
    ]
    return f"SELECT jsonb_build_array({', '.join(each)})"


def _values(row: asyncpg.Record) -> list[object]:
    """Without ids that a sequence gave: a sequence goes on when a transaction is rolled back."""
    return [value for name, value in row.items() if not (name == "id" and isinstance(value, int))]
