"""Calls of a running Tocsin use a database login that is held to one tenant."""

import asyncpg
import pytest
from tocsin_stack.service import SERVICES, ServiceSpec
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

_TABLES = """
SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relrowsecurity
"""


@pytest.mark.parametrize("spec", SERVICES, ids=lambda spec: spec.name)
async def test_calls_have_a_login_that_shows_nothing_without_a_proof(
    world: World, tenant: Tenant, spec: ServiceSpec
) -> None:
    await tenant.people("ana")
    owner = await asyncpg.connect(world.stack.plan.databases[spec.name], server_settings={"tocsin.org_id": "*"})
    calls = await asyncpg.connect(world.stack.plan.tenant_databases[spec.name])
    try:
        logins = await calls.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert {f"tocsin_{spec.name}", f"tocsin_{spec.name}_tenant"} <= {row["usename"] for row in logins}
        tables = [row[0] for row in await owner.fetch(_TABLES)]
        assert len(tables) > 4
        for org_id in ("*", tenant.org_id):
            await calls.execute(f"SET tocsin.org_id = '{org_id}'")
            for table in tables:
                assert await calls.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    finally:
        await owner.close()
        await calls.close()
