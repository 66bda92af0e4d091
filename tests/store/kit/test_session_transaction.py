"""A transaction that keeps its session: what holds between its COMMIT and the end of its block, and after that."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.pool import Database
from tocsin_kit.db.session_transaction import SessionTransaction
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import until

KEY = 42
LOCK = f"SELECT pg_advisory_lock({KEY})"
UNLOCK = "SELECT pg_advisory_unlock_all()"
HELD = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {KEY}"
ADD = "INSERT INTO widgets (org_id, name) VALUES ('a', 'kept')"


async def held(db: Database) -> int:
    return await read(db, HELD)


async def stored(db: Database) -> int:
    return await read(db, "SELECT count(*) FROM widgets")


async def read(db: Database, query: str) -> int:
    async with db.system() as tx:
        return int(await tx.fetchval(query))


async def add(transaction: SessionTransaction) -> None:
    await transaction.tx.execute(LOCK)
    await transaction.tx.execute(ADD)


async def run(db: Database, work: Callable[[SessionTransaction], Awaitable[None]]) -> None:
    async with db.keeping(UNLOCK) as transaction:
        await work(transaction)


async def test_what_is_committed_is_seen_while_the_session_s_locks_are_still_held(db: Database) -> None:
    told: list[str] = []
    async with db.keeping(UNLOCK) as transaction:
        await add(transaction)
        transaction.tx.after_commit(lambda: told.append("committed"))
        assert (await stored(db), told) == (0, [])
        await transaction.commit()
        assert (await stored(db), await held(db), told) == (1, 1, ["committed"])
        with pytest.raises(RuntimeError, match="has ended"):
            await transaction.tx.execute(ADD)
    assert await held(db) == 0


async def test_without_a_commit_nothing_stays(db: Database) -> None:
    async with db.keeping(UNLOCK) as transaction:
        await add(transaction)
    assert (await stored(db), await held(db)) == (0, 0)


@pytest.mark.parametrize("committed", [False, True])
async def test_an_error_of_the_block_comes_out_and_the_locks_are_let_go(open_database: Any, committed: bool) -> None:
    db = await open_database(size=1)

    async def fails(transaction: SessionTransaction) -> None:
        await add(transaction)
        if committed:
            await transaction.commit()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(db, fails)
    assert (await stored(db), await held(db)) == (int(committed), 0)


async def test_a_session_that_cannot_be_cleaned_is_closed(open_database: Any, db: Database) -> None:
    one = await open_database(size=1)
    async with one.keeping("SELECT no_such_function()") as transaction:
        await add(transaction)
        await transaction.commit()
        process = await _process(db)

    async def nothing_is_held() -> bool:
        return await held(db) == 0

    await until(nothing_is_held)  # PostgreSQL hears of the end of a session a moment after it was closed here
    async with one.system() as tx:
        assert await tx.fetchval("SELECT pg_backend_pid()") != process


async def test_a_session_that_dies_takes_no_other_with_it(open_database: Any, db: Database) -> None:
    one = await open_database(size=1)

    async def dies(transaction: SessionTransaction) -> None:
        await add(transaction)
        await _end(db, await _process(db))
        await transaction.commit()

    with pytest.raises(TocsinError) as caught:
        await run(one, dies)
    assert caught.value.reason == ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE
    assert (await stored(one), await held(db)) == (0, 0)


async def test_an_error_that_was_swallowed_is_a_defect(open_database: Any) -> None:
    one = await open_database(size=1)

    async def swallows(transaction: SessionTransaction) -> None:
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await transaction.tx.fetchval("SELECT 1/0")
        await transaction.commit()

    with pytest.raises(RuntimeError, match="swallowed"):
        await run(one, swallows)
    async with one.keeping(UNLOCK) as transaction:
        await add(transaction)
        await transaction.commit()
    assert await stored(one) == 1


async def _process(db: Database) -> int:
    return await read(db, f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {KEY}")


async def _end(db: Database, process: int) -> None:
    await read(db, f"SELECT pg_terminate_backend({process}, 5000)::int")


async def test_what_its_first_statement_locked_is_let_go_when_it_fails_half_way(
    open_database: Any, db: Database
) -> None:
    one = await open_database(size=1)
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with one.keeping(UNLOCK, first=f"{LOCK};SELECT 1/0"):
            raise AssertionError("it has not begun")
    assert await held(db) == 0
    async with one.keeping(UNLOCK, first=LOCK) as transaction:
        assert (transaction.answer, await held(db)) == ("SELECT 1", 1)
        await transaction.commit()
    assert await held(db) == 0
