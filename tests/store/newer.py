"""Rows of a newer version, which are there after a way back: every function of a store reads them, or leaves them alone.

Each column of words (a CHECK lists them, or it names a channel) holds one that this version does not know. What a function of the
store did with rows of known words it must do without an exception: one row would end a list or a batch that others are part of.
"""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Final

import asyncpg
from tocsin_kit.db.dialing import Connection

from tests.store.fence import AS_FILLED, FILLED, STATEMENTS, Function, Recorder, functions_of, insert_of, laid_bare
from tests.store.made_up import TEXT, Maker

_NEWER: Final = "of_a_newer_version"
_NAMED: Final = ("channel", "channel_override", "urgency", "kind", "type")
"""Columns of words that no CHECK lists."""
_ROUNDS: Final = 3


async def find_stumbling(admin_url: str, package: ModuleType) -> tuple[set[str], dict[str, str]]:
    """The columns that were tried, and the functions that raise, by name: at which column, and what.

    The database must be a copy that no other test uses.
    """
    connection = await asyncpg.connect(admin_url, statement_cache_size=STATEMENTS)
    try:
        tables = await laid_bare(connection)
        words = [(table, each["column"]) for table, columns in tables.items() for each in columns if _is_word(each)]
        found: dict[str, str] = {}
        functions = functions_of(package)
        for number in range(_ROUNDS):
            fill = [insert_of(table, columns, TEXT, number) for table, columns in tables.items()]
            before = await _errors(connection, functions, fill, number)
            for table, column in words:
                able = {
                    name: functions[name] for name, (error, sql) in before.items() if not error and _names(sql, table)
                }
                newer = [*fill, f"UPDATE {table} SET {column} = '{_NEWER}'"]
                for name, (error, _) in (await _errors(connection, able, newer, number)).items():
                    if error:
                        found.setdefault(name, f"{table}.{column}: {error}")
    finally:
        await connection.close()
    return {f"{table}.{column}" for table, column in words}, found


def _is_word(column: asyncpg.Record) -> bool:
    listed = re.search(r"'\w+'::text", " ".join(column["checks"]))
    return column["type"] == "text" and (bool(listed) or column["column"] in _NAMED)


def _names(sql: str, table: str) -> bool:
    return bool(re.search(rf"\b{table}\b", sql))


async def _errors(
    connection: Connection, functions: Mapping[str, Function], fill: list[str], number: int
) -> dict[str, tuple[str, str]]:
    """What each function raised, or nothing, and the statements that it ran."""
    errors: dict[str, tuple[str, str]] = {}
    outer = connection.transaction()
    await outer.start()
    await connection.execute(";".join([*fill, FILLED]))
    for name, function in functions.items():
        recorder = Recorder(connection)
        error = ""
        try:
            await function(recorder, **Maker(number).arguments(function))
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        await connection.execute(AS_FILLED)
        errors[name] = error, "\n".join(sql for sql, _ in recorder.seen)
    await outer.rollback()
    return errors
