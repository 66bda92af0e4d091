"""The login of calls: with any setting of its statements, it sees and changes the rows of its own tenant only."""

import contextlib
from typing import Any

import asyncpg
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_stack.postgres import Postgres
from tocsin_testkit.busy import within
from tocsin_testkit.databases import dialed

from tests.store.kit.conftest import MIGRATIONS, OpenDatabase

# What an attacker who can put text into a statement would try: each names another tenant, or all of them.
INJECTED = {
    "or true": "SELECT name FROM widgets WHERE org_id = 'a' OR true",
    "all tenants": "SELECT w.name FROM (SELECT set_config('tocsin.org_id', '*', true)) AS s, widgets AS w",
    "another tenant": "SELECT w.name FROM (SELECT set_config('tocsin.org_id', 'b', true)) AS s, widgets AS w",
    "for the session": "SELECT w.name FROM (SELECT set_config('tocsin.org_id', 'b', false)) AS s, widgets AS w",
    "a statement of its own": """SELECT (xpath('//name/text()', x))[1]::text AS name
      FROM (SELECT set_config('tocsin.org_id', 'b', true)) AS s, query_to_xml('SELECT name FROM widgets', true, true, '') AS x""",
    "proof of its own tenant": """SELECT w.name FROM (SELECT set_config('tocsin.org_id', 'b', true),
      set_config('tocsin.proof', current_setting('tocsin.proof'), true)) AS s, widgets AS w""",
    "a proof read from another session": """SELECT w.name FROM (
      SELECT set_config('tocsin.org_id', 'b', true), set_config('tocsin.proof', substring(query FROM 'proof=''(.*)'''), true)
      FROM pg_stat_activity WHERE query LIKE '%org_id=''b''%' AND pid <> pg_backend_pid() LIMIT 1) AS s, widgets AS w""",
    "row security off": "SELECT w.name FROM (SELECT set_config('row_security', 'off', true)) AS s, widgets AS w",
}


@pytest.fixture
async def db(open_database: OpenDatabase, tenant_url: str) -> Database:
    """With the login of calls beside the owner's."""
    return await open_database(tenant_url=tenant_url)


@pytest.fixture
async def two_tenants(db: Database) -> Database:
    for org_id in ("a", "b"):
        async with db.transaction(org_id) as tx:
            await tx.execute("INSERT INTO widgets (org_id, name) VALUES ($1, $2)", org_id, f"of {org_id}")
    return db


@pytest.mark.parametrize("sql", INJECTED.values(), ids=INJECTED.keys())
async def test_no_injected_statement_opens_another_tenant(two_tenants: Database, sql: str) -> None:
    seen: set[str] = set()
    async with two_tenants.transaction("b"):  # its session is there to be looked at
        with contextlib.suppress(TocsinError):  # what the database refuses shows nothing
            async with two_tenants.transaction("a") as tx:
                seen |= {row["name"] for row in await tx.fetch(sql)}
                seen |= {row["name"] for row in await tx.fetch("SELECT name FROM widgets")}  # and what comes after it
    assert "of b" not in seen
    async with two_tenants.transaction("a") as tx:
        assert [row["name"] for row in await tx.fetch("SELECT name FROM widgets")] == ["of a"]


async def test_first_statements_see_the_proven_tenant_alone(two_tenants: Database) -> None:
    async with two_tenants.transaction("a", first="SELECT FROM widgets") as tx:
        assert tx.answer == "SELECT 1"


async def test_a_script_changes_rows_of_the_proven_tenant_alone(two_tenants: Database) -> None:
    await two_tenants.script("a", "UPDATE widgets SET name = 'changed'")
    for org_id, name in (("a", "changed"), ("b", "of b")):
        async with two_tenants.transaction(org_id) as tx:
            assert await tx.fetchval("SELECT name FROM widgets") == name


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT set_config('role', 'kit', true)",
        "SELECT set_config('session_authorization', 'kit', true)",
        "SELECT key FROM tenancy.keys",
        "UPDATE tenancy.keys SET key = ''",
        "ALTER TABLE widgets DISABLE ROW LEVEL SECURITY",
        "DROP POLICY proven_for_kit_tenant ON widgets",
        "TRUNCATE widgets",
        "CREATE OR REPLACE FUNCTION tenancy.org_id() RETURNS text LANGUAGE sql AS 'SELECT ''b'''",
        "CREATE TABLE mine ()",
        "DELETE FROM queue_pauses",
        "UPDATE alembic_version SET version_num = '0000'",
    ],
)
async def test_it_can_neither_become_the_owner_nor_change_what_holds_it(db: Database, sql: str) -> None:
    async with db.system() as tx:
        await tx.execute("CREATE TABLE IF NOT EXISTS queue_pauses (queue text)")
    with pytest.raises((asyncpg.PostgresError, TocsinError)) as refused:
        async with db.transaction("a") as tx:
            await tx.execute(sql)
    assert "not" in str(refused.value) or "denied" in str(refused.value)


async def test_nothing_is_seen_without_a_proof(two_tenants: Database, tenant_url: str) -> None:
    connection = await asyncpg.connect(tenant_url)
    try:
        for org_id in ("a", "*", ""):
            await connection.execute(f"SET tocsin.org_id = '{org_id}'")
            assert await connection.fetch("SELECT name FROM widgets") == []
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("INSERT INTO widgets (org_id, name) VALUES ('a', 'planted')")
    finally:
        await connection.close()


async def test_an_odd_tenant_is_proved_as_any_other(db: Database) -> None:
    for org_id in ("o'brien", 'a"b', "ü/1", "x" * 500):
        async with db.transaction(org_id) as tx:
            await tx.execute("INSERT INTO widgets (org_id, name) VALUES ($1, 'mine')", org_id)
            assert await tx.fetchval("SELECT count(*) FROM widgets") == 1


async def test_before_migrate_has_made_its_rights_the_database_is_not_ready(postgres: Postgres, url: str) -> None:
    bare = await postgres.ensure_database("kit_without_login", "kit")
    login = await postgres.ensure_tenant_login("kit_without_login", "kit")
    await upgrade(bare, MIGRATIONS)
    database = await Database.open(bare, name="kit-test", tenant_url=login, size=2)
    try:
        assert not await database.connected(0.5), "the login of calls may not connect yet"
        with pytest.raises(TocsinError) as refused:
            await database.ping()
        assert refused.value.reason == ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE
        assert "run migrate" in refused.value.message
        await upgrade(bare, MIGRATIONS, tenant_url=login)
        await upgrade(bare, MIGRATIONS, tenant_url=login)  # again, as every start of a stack does
        assert await database.connected(within(10))
        await database.ping()
        await run_one(database)
    finally:
        await database.close()
        await postgres.drop_database("kit_without_login")


async def test_a_table_that_is_not_held_to_one_tenant_is_not_ready(db: Database) -> None:
    await db.ping()
    async with db.system() as tx:
        await tx.execute("DROP POLICY proven_for_kit_tenant ON widgets")
    with pytest.raises(TocsinError, match="is not held to one tenant in widgets"):
        await db.ping()


async def test_rights_are_asked_for_at_the_start_and_a_newer_table_stops_no_service(
    db: Database, url: str, tenant_url: str
) -> None:
    await db.require_rights()
    owner = await asyncpg.connect(url)
    await owner.execute(
        "CREATE TABLE newer (org_id text NOT NULL); ALTER TABLE newer ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    )
    await owner.close()
    await db.ping()
    with pytest.raises(TocsinError, match=r"lacks DELETE on newer, INSERT on newer.*run migrate"):
        await db.require_rights()
    await upgrade(url, MIGRATIONS, tenant_url=tenant_url)
    await db.require_rights()


async def test_a_login_that_may_act_as_the_owner_is_not_ready(url: str) -> None:
    database = await dialed(url, name="kit-test", tenant_url=url, size=2)
    try:
        with pytest.raises(TocsinError, match="may act as kit, who owns the database"):
            await database.ping()
    finally:
        await database.close()


async def test_a_key_that_was_made_anew_is_read_again(db: Database) -> None:
    await run_one(db)
    async with db.system() as tx:
        await tx.execute("UPDATE tenancy.keys SET key = sha256(key)")
    with pytest.raises(TocsinError, match="does not accept the tenants' proofs"):
        await db.ping()
    await db.ping()
    await run_one(db)


async def run_one(db: Database) -> Any:
    async with db.transaction("a") as tx:
        return await tx.fetchval("SELECT count(*) FROM widgets WHERE org_id = $1", tx.org_id)
