"""What a pool does when connections and servers fail, and callers leave: on a real server, which is killed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import grpc
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db import connections
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_stack.postgres import Postgres
from tocsin_testkit.busy import until, within

from tests.store.kit.widget_rows import names, run

Eventually = Callable[..., Awaitable[None]]
ADD = "INSERT INTO widgets (org_id, name) VALUES ($1, $2)"


async def test_a_connection_lost_on_the_way_is_unavailable_and_the_next_call_works(db: Database) -> None:
    with pytest.raises(TocsinError) as caught:
        await run(
            db,
            "a",
            "INSERT INTO widgets (org_id, name) VALUES ('a', 'x')",
            "SELECT pg_terminate_backend(pg_backend_pid())",
        )
    assert caught.value.reason == ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE
    assert await names(db, "a") == []


async def test_connections_that_died_while_idle_are_replaced(db: Database) -> None:
    async with db.system(), db.system() as tx:  # two connections exist now
        assert await tx.fetchval("SELECT pg_backend_pid()")
    async with db.system() as tx:
        await tx.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for _ in range(4):
        assert await names(db, "a") == []


async def test_an_outage_fails_fast_and_ends_by_itself(db: Database, postgres: Postgres) -> None:
    await db.ping()
    postgres.kill()
    try:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(TocsinError) as caught:
                await db.ping()
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - began < within(2.0)
    finally:
        await postgres.stop()
        await postgres.start()
    assert await names(db, "a") == []


async def test_callers_sit_out_a_short_outage(
    db: Database, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PATIENCE", 10.0)
    await db.ping()
    postgres.kill()
    callers = [asyncio.create_task(names(db, "a")) for _ in range(20)]
    await asyncio.wait(callers, timeout=0.05)
    assert not any(caller.done() for caller in callers)
    await postgres.stop()
    await postgres.start()
    assert await asyncio.gather(*callers) == [[]] * 20


async def test_a_pool_opened_before_its_server_is_there_connects_later(postgres: Postgres, url: str) -> None:
    await postgres.stop()
    db = await Database.open(url, name="early", size=2)
    with pytest.raises(TocsinError):
        await db.ping()
    await postgres.start()
    try:
        assert await db.connected(within(10))
        await db.ping()
    finally:
        await db.close()


async def test_a_caller_that_leaves_while_dialing_makes_room_for_the_next(open_database: Any) -> None:
    db = await open_database(size=1)
    with pytest.raises(TocsinError):
        await run(db, "a", "SELECT pg_terminate_backend(pg_backend_pid())")
    # The only connection is gone: the next caller dials.
    dialing, go = asyncio.Event(), asyncio.Event()
    dial = db._connections._dial

    async def slow_dial() -> Any:
        dialing.set()
        await go.wait()
        return await dial()

    db._connections._dial = slow_dial
    first = asyncio.create_task(db.ping())
    await dialing.wait()
    second = asyncio.create_task(db.ping())
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    async with asyncio.timeout(within(2)):
        await second


@pytest.mark.parametrize("seed", range(2))
async def test_a_storm_of_cancellations_and_lost_connections_leaks_nothing(open_database: Any, seed: int) -> None:
    rng = random.Random(seed)
    db = await open_database(size=3)

    async def work(number: int) -> None:
        org_id = f"org{number % 3}"
        async with db.transaction(org_id) as tx:
            await tx.execute(ADD, org_id, str(number))
            match rng.randrange(6):
                case 0:
                    await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
                case 1:
                    await tx.execute("SELECT 1/0")
                case 2:
                    raise KeyError
            await tx.execute("SELECT pg_sleep(0.002)")
            seen = await tx.fetchval("SELECT array_agg(DISTINCT org_id) FROM widgets")
            assert seen == [org_id]

    tasks = []
    for number in range(300):
        tasks.append(asyncio.create_task(work(number)))
        if rng.random() < 0.3:
            asyncio.get_running_loop().call_later(rng.uniform(0, 0.05), rng.choice(tasks).cancel)
        if rng.random() < 0.1:
            await asyncio.sleep(0.005)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    allowed = (KeyError, asyncio.CancelledError, asyncpg.DivisionByZeroError, TocsinError)
    assert [each for each in outcomes if each is not None and not isinstance(each, allowed)] == []
    async with db.system() as tx:
        committed = {row["name"] for row in await tx.fetch("SELECT name FROM widgets")}
    assert {str(number) for number, each in enumerate(outcomes) if each is None} <= committed
    failed = {str(n) for n, each in enumerate(outcomes) if isinstance(each, (KeyError, asyncpg.DivisionByZeroError))}
    assert not failed & committed
    await until(lambda: none_in_a_transaction(db))  # who was cancelled does not wait for its ROLLBACK
    assert db._connections.lent == db._connections.waiting == 0
    assert db._connections.open <= 3


async def none_in_a_transaction(db: Database) -> bool:
    async with db.system() as tx:
        return not await tx.fetchval(
            """SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND state LIKE 'idle in trans%' AND pid <> pg_backend_pid()"""
        )
