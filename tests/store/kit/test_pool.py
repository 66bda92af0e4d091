"""Transactions, tenants, failures: on a real server, because each of these is a promise about one."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit import wall_clock
from tocsin_kit.db.inlined import inlined
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import until
from tocsin_testkit.clock import clock_is_ahead

from tests.store.kit.widget_rows import names, run
from tests.store.round_trips import recorded

Eventually = Callable[..., Awaitable[None]]
ADD = "INSERT INTO widgets (org_id, name) VALUES ($1, $2)"


async def test_a_tenant_sees_and_changes_its_own_rows_only(db: Database) -> None:
    for org_id in ("a", "b"):
        async with db.transaction(org_id) as tx:
            await tx.execute(ADD, org_id, f"of {org_id}")
    async with db.transaction("b") as tx:
        assert await tx.execute("UPDATE widgets SET size = 9 WHERE name = 'of a'") == "UPDATE 0"
        assert await tx.execute("DELETE FROM widgets WHERE name = 'of a'") == "DELETE 0"
    assert await names(db, "a") == ["of a"]
    assert await names(db, "b") == ["of b"]
    async with db.system() as tx:
        assert await tx.fetchval("SELECT count(*) FROM widgets") == 2


async def test_a_transaction_begins_with_its_first_statements(db: Database) -> None:
    """In the round trip of BEGIN, behind the tenant, and within the transaction."""
    first = "SET LOCAL work_mem = '1234kB';SELECT FROM widgets WHERE org_id = 'a'"
    await run(db, "a", "INSERT INTO widgets (org_id, name) VALUES ('a', 'one')")

    async def work(tx: Tx) -> tuple[str, str]:
        return tx.answer, await tx.fetchval("SHOW work_mem")

    assert await db.run("a", work, first=first) == ("SELECT 1", "1234kB")
    assert (await db.run("b", work, first=first))[0] == "SELECT 0"
    assert (await db.run("a", work))[1] != "1234kB"


async def test_a_script_is_a_transaction_of_one_tenant_in_one_round_trip(db: Database) -> None:
    name = "it's a 'name' \\ $1 of ünicode"
    for org_id in ("a", "b"):
        await run(db, org_id, f"INSERT INTO widgets (org_id, name) VALUES ('{org_id}', 'one')")
    with recorded() as trips:
        await db.script("b", inlined("UPDATE widgets SET name = $1, size = $2", name, 7))
    assert [len(each) for each in trips.transactions] == [1]
    assert await names(db, "a") == ["one"]
    assert await names(db, "b") == [name]


async def test_a_script_that_fails_changes_nothing_and_spoils_no_session(db: Database) -> None:
    await run(db, "a", "INSERT INTO widgets (org_id, name) VALUES ('a', 'one')")
    made = db.sessions_made
    with pytest.raises(asyncpg.NotNullViolationError):
        await db.script("a", "UPDATE widgets SET name = 'two';UPDATE widgets SET size = NULL")
    async with db.transaction("a") as tx:
        await tx.execute("UPDATE widgets SET size = 3")
        with pytest.raises(TocsinError) as refused:
            await db.script("a", "UPDATE widgets SET name = 'three'")
    assert refused.value.reason == ErrorReason.ERROR_REASON_CONFLICT
    assert await names(db, "a") == ["one"]
    assert db.sessions_made <= made + 1, "one more for two transactions at once"


async def test_a_transaction_that_only_reads_is_of_one_tenant_and_cannot_write(db: Database) -> None:
    await run(db, "a", "INSERT INTO widgets (org_id, name) VALUES ('a', 'one')")
    for org_id, seen in (("a", 1), ("b", 0)):
        async with db.reading(org_id) as tx:
            assert await tx.fetchval("SELECT count(*) FROM widgets") == seen
            assert await tx.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        with pytest.raises(RuntimeError, match="has ended"):
            await tx.fetchval("SELECT 1")
    with pytest.raises(TocsinError):
        async with db.reading("a") as tx:
            await tx.execute(ADD, "a", "two")
    assert await names(db, "a") == ["one"]


async def test_a_transaction_that_only_reads_ends_without_a_wait_and_gives_its_connection_back(
    open_database: Any,
) -> None:
    db = await open_database(size=1)
    with recorded() as trips:
        async with db.reading("a") as tx:
            await tx.fetchval("SELECT 1")
        assert trips.transactions == [], "it has not ended yet"
        async with db.transaction("b") as tx:  # waits for the only connection
            assert await tx.fetchval("SELECT current_setting('tocsin.org_id')") == "b"
            await tx.execute(ADD, "b", "one")
    assert [each[-1] for each in trips.transactions] == ["ROLLBACK", "COMMIT"]


async def test_its_clock_is_that_of_credentials(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a service whose host is an hour behind."""
    asked = time.time()
    monkeypatch.setattr(wall_clock, "_set_at", wall_clock._set_at)
    monkeypatch.setattr(wall_clock, "_ahead", wall_clock._ahead - 3600)

    async def is_right() -> bool:
        await db.ping()  # an answer that took long tells nothing
        return asked - 5 < wall_clock.now() < time.time() + 5

    await until(is_right)


async def test_a_tenant_cannot_write_for_another(db: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(db, "a", "INSERT INTO widgets (org_id, name) VALUES ('b', 'planted')")
    await run(db, "a", "INSERT INTO widgets (org_id, name) VALUES ('a', 'mine')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(db, "a", "UPDATE widgets SET org_id = 'b'")


async def test_the_tenant_does_not_stay_on_the_connection(open_database: Any) -> None:
    db = await open_database(size=1)
    async with db.transaction("a") as tx:
        await tx.execute(ADD, "a", "mine")
    connection = await db._connections.acquire()
    try:
        assert await connection.fetchval("SELECT count(*) FROM widgets") == 0
    finally:
        db._connections.release(connection)


@pytest.mark.parametrize("org_id", ["o'brien", "a'; DROP TABLE widgets; --", "\\", "ünï", '"'])
async def test_any_tenant_id_is_only_data(db: Database, org_id: str) -> None:
    async with db.transaction(org_id) as tx:
        assert await tx.fetchval("SELECT current_setting('tocsin.org_id')") == org_id
        await tx.execute(ADD, org_id, "x")
    assert await names(db, org_id) == ["x"]


@pytest.mark.parametrize("org_id", ["", "a\0b"])
def test_a_transaction_needs_its_tenant(org_id: str) -> None:
    with pytest.raises(ValueError, match="tenant"):
        Database(None).transaction(org_id)  # type: ignore[arg-type]


async def test_callbacks_run_after_commit_and_never_after_rollback(db: Database) -> None:
    seen: list[object] = []

    async def later() -> None:
        seen.append(await names(db, "a"))

    async with db.transaction("a") as tx:
        await tx.execute(ADD, "a", "x")
        tx.after_commit(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        tx.after_commit(later)
        assert seen == []
    assert seen == [["x"]], "a failing callback must not keep the next from running"

    async def fail(tx: Tx) -> None:
        await tx.execute(ADD, "a", "y")
        tx.after_commit(later)
        raise KeyError

    with pytest.raises(KeyError):
        await db.run("a", fail)
    assert seen == [["x"]]
    assert await names(db, "a") == ["x"]


async def test_an_ended_transaction_is_unusable(db: Database) -> None:
    async with db.transaction("a") as tx:
        pass
    with pytest.raises(RuntimeError, match="ended"):
        await tx.execute("SELECT 1")


async def test_a_swallowed_sql_error_does_not_look_like_a_commit(db: Database) -> None:
    async def swallow(tx: Tx) -> None:
        await tx.execute(ADD, "a", "x")
        with pytest.raises(asyncpg.UniqueViolationError):
            await tx.execute(ADD, "a", "x")

    with pytest.raises(RuntimeError, match="swallowed"):
        await db.run("a", swallow)
    assert await names(db, "a") == []


async def test_a_cancelled_transaction_rolls_back_and_gives_its_connection_back(
    open_database: Any, eventually: Eventually
) -> None:
    db = await open_database(size=1)

    async def hang() -> None:
        async with db.transaction("a") as tx:
            await tx.execute(ADD, "a", "x")
            await tx.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(hang())
    observer = await open_database(size=1)

    async def sleeping() -> bool:
        async with observer.system() as tx:
            return bool(await tx.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"))

    await eventually(sleeping)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(db, "a") == []


async def test_run_repeats_after_a_deadlock(db: Database) -> None:
    async with db.transaction("a") as tx:
        await tx.execute(ADD, "a", "x")
        await tx.execute(ADD, "a", "y")
    both = asyncio.Barrier(2)
    tries = 0

    async def lock(tx: Tx, first: str, second: str) -> None:
        nonlocal tries
        tries += 1
        if tries > 2:
            # Behind the other one: on a machine without time it could be overtaken where it waits, and meet a second deadlock.
            first, second = second, first
        await tx.execute("UPDATE widgets SET size = size + 1 WHERE name = $1", first)
        if tries <= 2:
            await both.wait()
        await tx.execute("UPDATE widgets SET size = size + 1 WHERE name = $1", second)

    await asyncio.gather(db.run("a", lambda tx: lock(tx, "x", "y")), db.run("a", lambda tx: lock(tx, "y", "x")))
    assert tries == 3
    async with db.transaction("a") as tx:
        assert [row["size"] for row in await tx.fetch("SELECT DISTINCT size FROM widgets")] == [2]


async def test_run_gives_up_as_a_conflict(db: Database) -> None:
    tries = 0

    async def conflict(tx: Tx) -> None:
        nonlocal tries
        tries += 1
        await tx.execute("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$")

    with pytest.raises(TocsinError) as caught:
        await db.run("a", conflict)
    assert (tries, caught.value.code) == (3, grpc.StatusCode.ABORTED)


async def test_a_lock_that_does_not_come_is_a_conflict(open_database: Any) -> None:
    db = await open_database(lock_timeout=0.05)
    async with db.transaction("a") as holder:
        await holder.execute(ADD, "a", "x")
        with pytest.raises(TocsinError) as caught:
            async with db.transaction("a") as tx:
                await tx.execute(ADD, "a", "x")
    assert caught.value.reason == ErrorReason.ERROR_REASON_CONFLICT


async def test_now_is_the_databases_and_can_be_moved(db: Database) -> None:
    async with db.system() as tx:
        before = await tx.now()
        assert await tx.now() == before
        await tx.execute(clock_is_ahead(timedelta(hours=1)))
    async with db.system() as tx:
        assert (await tx.now() - before).total_seconds() >= 3600
