"""Deletes old rows, a few at a time."""

from collections.abc import Awaitable, Callable

from tocsin_kit.db.pool import Database, Tx

Delete = Callable[[Tx, int], Awaitable[int]]
"""Deletes at most so many rows of all tenants; returns how many."""


async def delete_in_batches(database: Database, delete: Delete, *, batch: int = 500, rounds: int = 200) -> int:
    """Runs `delete(tx, batch)` in transactions of its own until it deletes fewer than `batch`; returns how many rows were
    deleted.

    So no transaction is long, however many rows are old. After `rounds` transactions the rest is left to the next call: other
    work of the same loop must not wait for it. Raises DATABASE_UNAVAILABLE.
    """
    total = 0
    for _ in range(rounds):
        async with database.claim() as tx:
            deleted = await delete(tx, batch)
        total += deleted
        if deleted < batch:
            break
    return total
