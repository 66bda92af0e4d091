"""A database that another test has had is as a new one, or is given to no other test."""

import os
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tocsin_stack.postgres import Postgres
from tocsin_testkit.clock import clock_reads

from tests.store.emptied import Emptied

ALL = {"tocsin.org_id": "*"}
USER = "INSERT INTO users (org_id, id, display_name, time_zone, disabled) VALUES ('acme', 'ana', '', '', false)"


@pytest.fixture
async def emptied(postgres: Postgres) -> AsyncIterator[Emptied]:
    databases = Emptied(postgres, "tocsin_escalation", "emptied")
    yield databases
    await databases.close()


async def left(emptied: Emptied, *statements: str) -> str:
    """The database in which a test has run this."""
    async with emptied.lent() as url:
        session = await asyncpg.connect(url, server_settings=ALL)
        for statement in statements:
            await session.execute(statement)
        await session.close()
    return url


async def test_rows_the_clock_and_settings_of_sessions_are_as_before(emptied: Emptied) -> None:
    used = await left(emptied, USER, clock_reads("now() + interval '1 hour'"), "SET tocsin.org_id = 'acme'")
    async with emptied.lent() as url:
        assert url == used
        session = await asyncpg.connect(url, server_settings=ALL)
        assert await session.fetchval("SELECT count(*) FROM users") == 0
        assert await session.fetchval("SELECT app_now() = now()")
        assert await session.fetchval("SELECT current_setting('tocsin.org_id')") == "*"
        await session.close()


@pytest.mark.skipif("JITTER" in os.environ, reason="a session that is delayed is not lent")
async def test_a_session_that_was_closed_is_lent_once(emptied: Emptied) -> None:
    async def pid(session: asyncpg.Connection) -> int:
        return int(await session.fetchval("SELECT pg_backend_pid()"))

    async with emptied.lent() as url:
        session = await asyncpg.connect(url, server_settings=ALL)
        first = await pid(session)
        await session.close()
        one, other = await asyncpg.connect(url, server_settings=ALL), await asyncpg.connect(url, server_settings=ALL)
        assert (await pid(one), await pid(other) != first) == (first, True)
        await one.close()
        await one.close()
        one, last = await asyncpg.connect(url, server_settings=ALL), await asyncpg.connect(url, server_settings=ALL)
        assert await pid(one) != await pid(last), "although it was closed twice"
        for session in (one, other, last):
            await session.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (id int)",
        "ALTER TABLE users ADD COLUMN more int",
        "CREATE POLICY more ON users USING (true)",
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
    ],
)
async def test_what_is_more_than_rows_ends_it(emptied: Emptied, statement: str) -> None:
    assert await left(emptied, statement) != await left(emptied)


async def test_a_transaction_that_a_test_left_open_ends_it(emptied: Emptied) -> None:
    async with emptied.lent() as used:
        session = await asyncpg.connect(used, server_settings=ALL)
        await session.execute(f"BEGIN; {USER}")
    async with emptied.lent() as url:
        assert url != used
    session.terminate()
