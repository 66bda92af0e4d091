"""Tests that get one database after the other do not notice."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from tocsin_kit.db.dialing import dial
from tocsin_stack.postgres import Postgres
from tocsin_testkit.lent_databases import LentDatabases

CLOCK = """
CREATE OR REPLACE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + interval ''1 hour''';
COMMENT ON FUNCTION app_now() IS 'moved'
"""
ROW = "INSERT INTO widgets (org_id, name, size) VALUES ('a', 'w', 1) RETURNING id"


@pytest.fixture
async def lent(postgres: Postgres, kit_template: str) -> AsyncIterator[LentDatabases]:
    databases = LentDatabases(postgres)
    yield databases
    await databases.close()


async def opened(lent: LentDatabases, url: str, **settings: str) -> "asyncpg.Connection[asyncpg.Record]":
    return await lent.sessions.connect(url, server_settings={"tocsin.org_id": "*", **settings})


async def test_the_next_test_finds_no_rows_and_the_clock_and_the_sequences_where_they_were(
    lent: LentDatabases, kit_template: str
) -> None:
    seen = []
    for _ in range(3):
        async with lent.lend(kit_template) as url:
            session = await opened(lent, url)
            offset = await session.fetchval("SELECT app_now() - now()")
            rows = await session.fetchval("SELECT count(*) FROM widgets")
            seen.append((url, await session.fetchval("SELECT pg_backend_pid()"), offset, rows))
            assert await session.fetchval(ROW) == 1
            await session.execute(CLOCK)
            assert await session.fetchval("SELECT app_now() - now()") == timedelta(hours=1)
            await session.close()
    assert len(set(seen)) == 1, "the same database and the same session"
    assert seen[0][2:] == (timedelta(), 0)


@pytest.mark.parametrize(
    "done",
    [
        "ALTER TABLE widgets DROP CONSTRAINT widgets_pkey",
        "ALTER TABLE widgets ALTER size SET DEFAULT 3",
        "ALTER TABLE widgets DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE mine ()",
        "REVOKE INSERT ON widgets FROM CURRENT_USER",
        "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION tenancy.org_id() RETURNS text LANGUAGE sql AS 'SELECT ''b'''",
        "UPDATE tenancy.keys SET key = 'x'",
        f"{ROW}; ANALYZE widgets",
    ],
)
async def test_where_more_was_done_the_next_test_gets_another(
    lent: LentDatabases, kit_template: str, done: str
) -> None:
    async with lent.lend(kit_template) as url:
        session = await opened(lent, url)
        await session.execute(done)
        await session.close()
    async with lent.lend(kit_template) as another:
        assert another != url


async def test_where_a_session_is_left_the_next_test_gets_another_and_the_session_is_ended(
    lent: LentDatabases, kit_template: str
) -> None:
    async with lent.lend(kit_template) as url:
        session = await opened(lent, url)
    async with lent.lend(kit_template) as another:
        assert another != url
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await session.execute("SELECT 1")
    session.terminate()


async def test_whoever_gets_a_session_finds_nothing_of_who_had_it_and_they_lost_it(
    lent: LentDatabases, kit_template: str
) -> None:
    async with lent.lend(kit_template) as url:
        one = await opened(lent, url)
        other = await opened(lent, url)
        pid = await one.fetchval("SELECT pg_backend_pid()")
        await one.execute("SET work_mem = '1MB'; SET tocsin.org_id = 'a'; SELECT pg_advisory_lock(1); LISTEN told")
        await one.close()
        assert await other.fetchval("SELECT pg_try_advisory_lock(1)")
        assert one.is_closed()
        with pytest.raises(asyncpg.InterfaceError):
            await one.execute("SELECT 1")
        one.terminate()
        unlike = await opened(lent, url, application_name="another")
        heir = await opened(lent, url)
        assert await heir.fetchval("SELECT pg_backend_pid()") == pid != await unlike.fetchval("SELECT pg_backend_pid()")
        assert await heir.fetchval("SHOW work_mem") == "4MB"
        assert await heir.fetchval("SHOW tocsin.org_id") == "*"
        assert await heir.fetch("SELECT pg_listening_channels()") == []
        for session in (other, unlike, heir):
            await session.close()


@pytest.mark.parametrize("end", ["terminate", "in a transaction", "killed"])
async def test_what_did_not_end_in_good_order_is_given_to_nobody(
    lent: LentDatabases, kit_template: str, end: str
) -> None:
    async with lent.lend(kit_template) as url:
        session, killer = await opened(lent, url), await opened(lent, url)
        pid = await session.fetchval("SELECT pg_backend_pid()")
        match end:
            case "terminate":
                session.terminate()
            case "killed":
                await session.close()
                await killer.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
            case _:
                await session.execute("BEGIN")
                await session.close()
        another = await opened(lent, url)
        assert await another.fetchval("SELECT pg_backend_pid()") != pid
        await another.close()
        await killer.close()


async def test_dial_uses_them_while_they_are_installed(lent: LentDatabases, kit_template: str) -> None:
    async def pid(url: str) -> int:
        session = await dial(url, name="lent")
        try:
            return int(await session.fetchval("SELECT pg_backend_pid()"))
        finally:
            await session.close()

    async with lent.lend(kit_template) as url:
        assert await pid(url) != await pid(url)
        with lent.sessions.installed():
            assert await pid(url) == await pid(url)
        assert await pid(url) != await pid(url)
