"""The last release goes on after the migrations of this one, beside it and after a rollback: none takes away what it needs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tocsin_kit.db.dialing import Connection, dial
from tocsin_stack.postgres import Postgres

from tests.contract.tools import load

COLUMNS: str = load("released").COLUMNS
ROOT = Path(__file__).parents[2]
SERVICES = ["ingest", "escalation", "notify"]


def released(service: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "services" / service / "released.json").read_text())
    return found


@asynccontextmanager
async def migrated(postgres: Postgres, service: str) -> AsyncIterator[Connection]:
    """A session with the newest tables."""
    session = await dial(await postgres.clone_database(f"tocsin_{service}", f"released_{service}"), name="released")
    try:
        yield session
    finally:
        await session.close()
        await postgres.drop_database(f"released_{service}")


@pytest.mark.parametrize("service", SERVICES)
async def test_each_statement_of_the_last_release_fits_the_migrated_tables(postgres: Postgres, service: str) -> None:
    statements = released(service)["statements"]
    assert len(statements) >= 40
    broken = {}
    async with migrated(postgres, service) as session:
        for text in statements:
            try:
                await session.prepare(text)
            except asyncpg.PostgresError as error:
                broken[text] = str(error)
    assert broken == {}


@pytest.mark.parametrize("service", SERVICES)
async def test_each_column_of_the_last_release_is_there_and_no_new_one_must_be_written(
    postgres: Postgres, service: str
) -> None:
    async with migrated(postgres, service) as session:
        rows = await session.fetch(COLUMNS)
    here = {(row["table"], row["column"]): row["type"] for row in rows}
    tables: dict[str, dict[str, str]] = released(service)["columns"]
    wanted = {(table, column): type_ for table, columns in tables.items() for column, type_ in columns.items()}
    assert {place: type_ for place, type_ in wanted.items() if here.get(place) != type_} == {}
    new = {(row["table"], row["column"]) for row in rows if not row["optional"]} - wanted.keys()
    assert {place for place in new if place[0] in tables} == set(), (
        "it has no default, and the last release writes none"
    )
