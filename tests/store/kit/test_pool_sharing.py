"""How callers and tenants share a pool that has fewer connections than callers."""

import asyncio
from functools import partial
from typing import Any

import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db import connections
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import until, within


async def test_callers_take_turns_on_a_busy_pool(open_database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    db = await open_database(size=2)
    running = peak = 0
    both = asyncio.Event()

    async def work() -> None:
        nonlocal running, peak
        async with db.transaction("a") as tx:
            running += 1
            peak = max(peak, running)
            if running == 2:
                both.set()
            # Making the second connection may take longer than everybody's turn on the first one.
            await asyncio.wait_for(both.wait(), 10)
            await tx.execute("SELECT 1")
            running -= 1

    waiting = [asyncio.create_task(work()) for _ in range(50)]
    for leaver in waiting[5:50:3]:
        leaver.cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in done if outcome is not None] == [asyncio.CancelledError] * 15
    assert peak == 2
    assert (db._connections.lent, db._connections.waiting) == (0, 0)

    monkeypatch.setattr(connections, "_QUEUE_TIMEOUT", 0.02)
    async with db.system(), db.system():
        with pytest.raises(TocsinError) as caught:
            await db.ping()
    assert caught.value.reason == ErrorReason.ERROR_REASON_OVERLOADED
    await db.ping()


async def test_slow_statements_of_one_tenant_leave_a_connection_to_others(open_database: Any) -> None:
    db = await open_database(size=3)
    order: list[str] = []
    done = asyncio.Event()

    async def work(org_id: str) -> None:
        async with db.transaction(org_id) as tx:
            await tx.execute("SELECT 1")
            order.append(org_id)
            if org_id == "slow":
                await done.wait()

    slow = [asyncio.create_task(work("slow")) for _ in range(9)]
    await until(lambda: len(order) == 2 and db._connections.waiting == 7)
    for org_id in ("b", "c", "b"):
        async with asyncio.timeout(within(2)):
            await work(org_id)
    assert order == ["slow", "slow", "b", "c", "b"], "one connection is left, and it is not for who holds some"
    # Work of all tenants belongs to no tenant.
    async with asyncio.timeout(within(2)):
        await db.ping()
    done.set()
    async with asyncio.timeout(within(10)):
        await asyncio.gather(*slow)
    assert (order.count("slow"), db._connections.lent, db._connections.waiting) == (9, 0, 0)


async def test_slow_statements_of_two_tenants_leave_a_connection_to_a_third(open_database: Any) -> None:
    db = await open_database(size=10)
    done = asyncio.Event()

    async def slow(org_id: str) -> None:
        async with db.transaction(org_id) as tx:
            await tx.execute("SELECT 1")
            await done.wait()

    calls = []
    for number, org_id in enumerate(("a", "b"), 1):
        calls += [asyncio.create_task(slow(org_id)) for _ in range(20)]
        await until(partial(_settled, db._connections, callers=20 * number))
    assert (db._connections._held["a"], db._connections._held["b"]) == (7, 2)
    for org_id in ("c", "d", "c"):
        async with asyncio.timeout(within(2)), db.transaction(org_id) as tx:
            await tx.execute("SELECT 1")
    done.set()
    async with asyncio.timeout(within(10)):
        await asyncio.gather(*calls)
    assert (db._connections.lent, db._connections.waiting) == (0, 0)


def _settled(pool: connections.Connections, *, callers: int) -> bool:
    """All callers have come, and the pool is as large as it becomes."""
    return pool.lent + pool.waiting == callers and pool.open == 10 and pool._growing is None
