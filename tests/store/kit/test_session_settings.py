"""What an operator has set for a role or a database does not change what the services' sessions do."""

from collections.abc import Awaitable, Callable

import asyncpg
from tocsin_kit.db.dialing import dial
from tocsin_kit.db.pool import Database

OpenDatabase = Callable[..., Awaitable[Database]]
OPERATORS = {
    "default_transaction_isolation": ("serializable", "read committed"),
    "idle_session_timeout": ("1h", "0"),
    "standard_conforming_strings": ("off", "on"),
    "synchronous_commit": ("off", "on"),
    "timezone": ("Pacific/Apia", "UTC"),
    "transaction_timeout": ("1min", "0"),
}
"""What the operator has set, and what a session has to have."""


async def test_sessions_have_their_own_settings_whatever_those_of_the_database_are(url: str) -> None:
    admin = await asyncpg.connect(url)
    for name, (theirs, _) in OPERATORS.items():
        await admin.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET {name} = '{theirs}'")
    await admin.close()
    plain, ours = await asyncpg.connect(url), await dial(url, name="settings")
    assert {name: await plain.fetchval(f"SHOW {name}") for name in OPERATORS} == {k: v[0] for k, v in OPERATORS.items()}
    assert {name: await ours.fetchval(f"SHOW {name}") for name in OPERATORS} == {k: v[1] for k, v in OPERATORS.items()}
    await plain.close()
    await ours.close()


async def test_a_commit_waits_for_the_standbys_that_the_operator_wants(url: str) -> None:
    """Only the value by which a commit that was confirmed may be lost is replaced."""
    admin = await asyncpg.connect(url)
    for value in ("local", "remote_write", "on", "remote_apply"):
        await admin.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = '{value}'")
        session = await dial(url, name="settings")
        assert await session.fetchval("SHOW synchronous_commit") == value
        await session.close()
    await admin.close()


async def test_two_who_change_a_row_do_not_end_each_other_whatever_the_level_of_the_database_is(
    url: str, open_database: OpenDatabase
) -> None:
    admin = await asyncpg.connect(url)
    await admin.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'")
    await admin.close()
    db: Database = await open_database()
    async with db.transaction("a") as tx:
        await tx.execute("INSERT INTO widgets (org_id, name) VALUES ('a', 'one')")
    async with db.transaction("a") as first:
        assert await first.fetchval("SELECT size FROM widgets") is not None
        async with db.transaction("a") as second:
            await second.execute("UPDATE widgets SET size = size + 1")
        await first.execute("UPDATE widgets SET size = size + 1")
