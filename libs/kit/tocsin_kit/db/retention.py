"""Deleting what is old, a little at a time."""

from collections.abc import Awaitable, Callable

from tocsin_kit.db.pool import Database, Tx

Delete = Callable[[Tx, int], Awaitable[int]]
"""Deletes at most so many rows of all tenants; how many went."""


async def delete_in_batches(database: Database, delete: Delete, *, batch: int = 500, rounds: int = 200) -> int:
    """Runs `delete(tx, batch)` in a transaction of its own that claims until it deletes fewer than `batch`; how many rows went.

    So no transaction is long, however much is old. After `rounds` transactions the rest is left to the next call: other work of
    the same loop must not wait for it. Raises DATABASE_UNAVAILABLE.
    """
    total = 0
    for _ in range(rounds):
        async with database.claim() as tx:
            deleted = await delete(tx, batch)
        total += deleted
        if deleted < batch:
            break
    return total
