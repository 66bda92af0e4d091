"""What operators chose, and what waits in an outbox, reaches the budgets of a replica."""

import pytest
from tocsin_kit.budgets import OUTBOX_ROWS, RPCS, Budgets, Limit, per_second, record
from tocsin_kit.budgets.record import Record
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics


async def test_what_is_recorded_holds_at_every_replica_and_waiting_rows_are_counted(db: Database) -> None:
    budgets = Budgets((per_second(RPCS, 10), Limit(OUTBOX_ROWS, 5000)), Metrics())
    kept = Record(db, budgets)
    await kept.refresh()
    assert (dict(budgets.chosen), budgets.allowed("a", RPCS)) == ({}, 10)
    async with db.system() as tx:
        await record.change(tx, "a", {RPCS: 3, OUTBOX_ROWS: 1200}, "users/operator")
        await record.change(tx, "b", {RPCS: 4}, "users/operator")
        await tx.execute(
            """INSERT INTO outbox (org_id, kind, ordering_key, payload)
            SELECT org_id, 'k', '', '' FROM unnest(ARRAY['a', 'b']) AS org_id, generate_series(1, 1200)"""
        )
    for _ in range(5):
        await kept.refresh()
    assert (budgets.allowed("a", RPCS), budgets.allowed("b", RPCS), budgets.allowed("c", RPCS)) == (3, 4, 10)
    budgets.require_rows("b")
    with pytest.raises(TocsinError) as caught:
        budgets.require_rows("a")
    assert caught.value.metadata == {"limit": OUTBOX_ROWS, "allowed": "1200"}
    async with db.system() as tx:
        await record.change(tx, "a", {RPCS: 0, OUTBOX_ROWS: 0}, "users/operator")
        await tx.execute("DELETE FROM outbox")
    for _ in range(5):
        await kept.refresh()
    assert (budgets.allowed("a", RPCS), budgets.used("b", OUTBOX_ROWS)) == (10, 0)
    budgets.require_rows("a")
