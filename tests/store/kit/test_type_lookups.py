"""Sessions that know PostgreSQL's own types without asking."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tocsin_kit.db import type_lookups
from tocsin_kit.db.dialing import Connection, dial

# asyncpg's question, among the statements that a session has prepared.
_ASKED = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'WITH RECURSIVE typeinfo_tree%'"
ARRAYS = {
    "uuid": [uuid.UUID(int=7), None],
    "int": [1, -2],
    "bigint": [1 << 40],
    "boolean": [True, False],
    "bytea": [b"\0\1"],
    "text": ["a", 'b"\\,{}', None],
    "jsonb": ['{"a": 1}'],
    "timestamptz": [datetime(2026, 1, 2, tzinfo=UTC)],
    "interval": [timedelta(seconds=3)],
    "double precision": [0.5],
}


@asynccontextmanager
async def session(url: str, statement_cache_size: int = 100) -> AsyncIterator[Connection]:
    opened = await dial(url, name="types", statement_cache_size=statement_cache_size)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.mark.parametrize("cached", [100, 0], ids=["statements are kept", "statements are not kept"])
async def test_arrays_of_each_type_there_and_back_in_a_session_that_asks_and_in_one_that_does_not(
    url: str, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type_lookups, "_known", {})
    for _ in range(2):
        async with session(url, cached) as one:
            for name, values in ARRAYS.items():
                assert await one.fetchval(f"SELECT $1::{name}[]", values) == values, name
    async with session(url) as one:
        for name, values in ARRAYS.items():
            await one.fetchval(f"SELECT $1::{name}[]", values)
        assert await one.fetchval(_ASKED) == 0


async def test_a_type_of_the_database_is_asked_about_in_each_session(url: str) -> None:
    async with session(url) as one:
        await one.execute("CREATE TYPE mood AS ENUM ('calm', 'woken')")
        assert await one.fetchval("SELECT $1::mood[]", ["calm"]) == ["calm"]
    async with session(url) as other:
        await other.execute("DROP TYPE mood; CREATE TYPE mood AS (level int, said text)")
        assert await other.fetchval("SELECT ARRAY[(3, 'ow')::mood]") == [(3, "ow")]
        assert await other.fetchval(_ASKED) == 1
