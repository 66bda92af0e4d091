"""docker/databases.sql on a real PostgreSQL, through the real psql."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from tocsin_stack import binaries
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_stack.service import SERVICES

from tests.contract.containers.support import ROOT


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[Postgres]:
    with scratch("containers-") as folder:
        server = Postgres(folder / "postgres", fsync=False)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


async def make_databases(server: Postgres, **passwords: str) -> None:
    address = urlsplit(server.admin_url)
    environment = {
        "PGHOST": str(address.hostname),
        "PGPORT": str(address.port),
        "PGUSER": str(address.username),
        "PGPASSWORD": str(address.password),
        "PGDATABASE": "postgres",
        **{f"{spec.name.upper()}_DB_PASSWORD": passwords.get(spec.name, f"{spec.name}-1") for spec in SERVICES},
    }
    script = ROOT / "docker" / "databases.sql"
    arguments = ("--no-psqlrc", "--quiet", f"--file={script}")
    process = await asyncio.create_subprocess_exec(
        str(binaries.postgres("psql")), *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def test_each_service_gets_a_database_that_no_other_can_open(cluster: Postgres) -> None:
    async def connect(role: str, database: str, password: str) -> "asyncpg.Connection[asyncpg.Record]":
        address = urlsplit(cluster.admin_url)
        return await asyncpg.connect(
            host=address.hostname, port=address.port, user=role, password=password, database=database
        )

    await make_databases(cluster)
    await make_databases(cluster, notify="it's changed")  # again, as every `up` does, with another password
    connection = await connect("tocsin_notify", "tocsin_notify", "it's changed")
    rights = await connection.fetchrow(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
    )
    assert rights is not None
    assert not any(rights)
    beside = await connection.fetchrow(
        """SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, pg_has_role(rolname, current_user, 'MEMBER')
           FROM pg_roles WHERE rolname = 'tocsin_notify_tenant' AND rolcanlogin"""
    )
    assert beside is not None, "the login of calls"
    assert not any(beside)
    await connection.execute("CREATE TABLE mine ()")
    await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connect("tocsin_notify_tenant", "tocsin_notify", "it's changed")  # migrate lets it in
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect("tocsin_notify", "tocsin_notify", "notify-1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connect("tocsin_notify", "tocsin_ingest", "it's changed")
