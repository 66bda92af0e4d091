"""Work for one replica at a time."""

import asyncio

import pytest
from tocsin_kit.db.leases import only_one
from tocsin_kit.db.migrations import bypasses_row_security
from tocsin_kit.db.pool import Database, Tx
from tocsin_stack.postgres import Postgres


async def test_one_works_and_the_others_go_home(db: Database) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def work(tx: Tx) -> str:
        began.set()
        await go.wait()
        return "done"

    async def quick(tx: Tx) -> str:
        return "also done"

    first = asyncio.create_task(only_one(db, "clean", work))
    await began.wait()
    assert await only_one(db, "clean", quick) is None
    assert await only_one(db, "other work", quick) == "also done"
    go.set()
    assert await first == "done"
    assert await only_one(db, "clean", quick) == "also done"


async def test_a_failure_lets_the_next_one_in(db: Database) -> None:
    async def fail(tx: Tx) -> None:
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            await only_one(db, "clean", fail)


async def test_a_role_above_the_fence_is_noticed(db: Database, postgres: Postgres) -> None:
    assert await bypasses_row_security(db) is False
    above = await Database.open(postgres.admin_url, name="admin", size=2)
    try:
        assert await bypasses_row_security(above) is True
    finally:
        await above.close()
