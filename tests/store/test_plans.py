"""No statement reads a whole table, with any estimate of the planner for a table without statistics."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Final

import asyncpg
import pytest
from tocsin_kit.db.dialing import dial
from tocsin_stack.postgres import Postgres

_SMALL: Final = {"queue_pauses", "queue_options", "queue_counters", "template_sets"}
"""A row for each queue, or each tenant; read as a whole."""
_STATEMENT: Final = re.compile(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b")
_WALK: Final = re.compile(r"Seq Scan on (\w+)")


def statements(package: str) -> Iterator[tuple[str, str]]:
    """Name and text of each statement that a module of the package keeps."""
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if isinstance(value, str) and _STATEMENT.match(value):
                yield f"{found.name}.{name}", value


async def cached_plan(session: "asyncpg.Connection[asyncpg.Record]", text: str) -> str:
    """The plan of a prepared statement, for any parameters."""
    await session.execute(f"PREPARE one AS {text}")
    try:
        types = await session.fetchval(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'one'"
        )
        parameters = f"({', '.join(['NULL'] * types)})" if types else ""
        return "\n".join(row[0] for row in await session.fetch(f"EXPLAIN EXECUTE one{parameters}"))
    finally:
        await session.execute("DEALLOCATE one")


@pytest.mark.parametrize("service", ["ingest", "escalation", "notify"])
async def test_no_plan_of_a_young_database_walks_a_table(postgres: Postgres, service: str) -> None:
    """Plans are cached. One that is made while the tables are empty is what the first storm of an installation runs by."""
    url = await postgres.clone_database(f"tocsin_{service}", f"plans_{service}")
    # As in claims, and where ingest decides: what looks rows of a partitioned table up by key runs there.
    settings = {"plan_cache_mode": "force_generic_plan", "seq_page_cost": "1e6"}
    session = await dial(url, name="plans", settings=settings)
    planned, walks = 0, list[str]()
    try:
        for name, text in statements(f"tocsin_{service}.store"):
            try:
                plan = await cached_plan(session, text)
            except (asyncpg.PostgresSyntaxError, asyncpg.UndefinedTableError, asyncpg.IndeterminateDatatypeError):
                continue  # a part of a statement
            planned += 1
            walks += [f"{name}: {table}" for table in _WALK.findall(plan) if table not in _SMALL]
    finally:
        await session.close()
        await postgres.drop_database(f"plans_{service}")
    assert planned >= 10
    assert walks == []
