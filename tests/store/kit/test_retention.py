"""Deleting what is old: in small transactions, until nothing is left or it has gone on for long enough."""

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.retention import delete_in_batches


class Old:
    """So many rows are old."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.transactions: list[str] = []

    async def delete(self, tx: Tx, limit: int) -> int:
        self.transactions.append(await tx.fetchval("SELECT pg_current_xact_id()::text"))
        gone = min(limit, self.rows)
        self.rows -= gone
        return gone


async def test_each_batch_is_a_transaction_and_the_last_one_is_not_full(db: Database) -> None:
    old = Old(25)
    assert await delete_in_batches(db, old.delete, batch=10) == 25
    assert len(set(old.transactions)) == 3
    assert await delete_in_batches(db, old.delete, batch=10) == 0


async def test_what_is_too_much_for_one_round_is_left_to_the_next(db: Database) -> None:
    old = Old(100)
    assert await delete_in_batches(db, old.delete, batch=10, rounds=4) == 40
    assert await delete_in_batches(db, old.delete, batch=10, rounds=40) == 60
