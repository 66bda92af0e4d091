"""`store/tables/` of each service shows the schema that its migrations make."""

import importlib
import itertools
from typing import Any, Final

import asyncpg
import pytest
from sqlalchemy import MetaData, create_mock_engine
from tocsin_stack.postgres import Postgres

SERVICES: Final = ["ingest", "escalation", "notify"]
WITHOUT_TENANT: Final = {
    "queue_pauses",
    "queue_options",
    "queue_counters",
    "sms_senders",
    "texts_received",
    "alembic_version",
}
"""Tables of the whole service: they say nothing about any tenant."""
_numbers = itertools.count()

_OURS = "relnamespace IN ('public'::regnamespace, to_regnamespace('parts')) AND relname <> 'alembic_version'"
CATALOG: Final = {
    "tables": f"""
        SELECT relname, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid),
          array_to_string(array(SELECT unnest(reloptions) ORDER BY 1), ', '), obj_description(oid)
        FROM pg_class WHERE relkind IN ('r', 'p') AND {_OURS}""",
    "columns": f"""
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
          pg_get_expr(adbin, adrelid), col_description(c.oid, attnum)
        FROM pg_class c JOIN pg_attribute ON attrelid = c.oid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped AND {_OURS}""",
    # NOT NULL (contype n, as of PostgreSQL 18) is compared with the columns.
    "constraints": f"""
        SELECT relname, conname, pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_class c ON conrelid = c.oid
        WHERE contype <> 'n' AND {_OURS}""",
    "indexes": f"""
        SELECT relname, indexrelid::regclass::text, pg_get_indexdef(indexrelid)
        FROM pg_index JOIN pg_class c ON indrelid = c.oid WHERE {_OURS}""",
}
_ROW_SECURITY = """
SELECT relname, relispartition, bool_or(attname = 'org_id') AS of_tenants, relrowsecurity AND relforcerowsecurity AS is_secure,
  (SELECT array_agg(polpermissive ORDER BY polpermissive) FROM pg_policy WHERE polrelid = c.oid) AS rules
FROM pg_class c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
WHERE relkind IN ('r', 'p') AND relnamespace IN ('public'::regnamespace, to_regnamespace('parts')) GROUP BY c.oid
"""


async def fetch(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


def script(metadata: MetaData) -> str:
    """The statements that make the tables."""
    statements: list[str] = []

    def note(element: Any, *_: object) -> None:
        statements.append(str(element.compile(dialect=engine.dialect)))

    engine = create_mock_engine("postgresql+asyncpg://", note)
    metadata.create_all(engine, checkfirst=False)
    return ";\n".join(statements)


@pytest.mark.parametrize("service", SERVICES)
async def test_the_tables_written_down_are_those_that_the_migrations_make(postgres: Postgres, service: str) -> None:
    tables = importlib.import_module(f"tocsin_{service}.store.tables")
    name = f"schema_{next(_numbers)}"
    url = await postgres.ensure_database(name, "schema")
    try:
        connection = await asyncpg.connect(url)
        try:
            clock = "CREATE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()'"
            await connection.execute(f"{clock}; {script(tables.METADATA)}")
        finally:
            await connection.close()
        for subject, query in CATALOG.items():
            written = {tuple(row) for row in await fetch(url, query)}
            migrated = {tuple(row) for row in await fetch(postgres.url(f"tocsin_{service}"), query)}
            assert sorted(migrated - written, key=str) == [], f"{subject} missing or different in store/tables/"
            assert sorted(written - migrated, key=str) == [], f"{subject} that no migration makes"
            assert migrated
    finally:
        await postgres.drop_database(name)


@pytest.mark.parametrize("service", SERVICES)
async def test_each_table_of_tenants_has_row_security(postgres: Postgres, service: str) -> None:
    rows = await fetch(postgres.url(f"tocsin_{service}"), _ROW_SECURITY)
    assert {row["relname"] for row in rows if not row["of_tenants"]} <= WITHOUT_TENANT
    # One that opens the transaction's tenant, and one that holds the login of calls to it; a partition by its own name is for work
    # of all tenants alone.
    wanted = {False: [False, True], True: [True]}
    unsafe = [
        row["relname"]
        for row in rows
        if row["of_tenants"] and not (row["is_secure"] and row["rules"] == wanted[row["relispartition"]])
    ]
    assert unsafe == []
    assert len(rows) > len(WITHOUT_TENANT)
