"""Runs work on a set in which one item may fail without delaying the others."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.failures import is_of_server
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

T = TypeVar("T")
Locked = TypeVar("Locked")


class TransactionLost(TocsinError):
    """The database ended a transaction after it had begun. The work of the transaction may be the cause: it took too long, or
    used too much."""


async def run_transaction(database: Database, org_id: str | None, work: Callable[[Tx], Awaitable[T]]) -> T:
    """`Database.run`. Raises TransactionLost for DATABASE_UNAVAILABLE after `work` began, if the work may be the cause."""

    async def nothing(tx: Tx) -> None:
        pass

    return await lock_then_run(database, org_id, nothing, lambda tx, _: work(tx))


async def lock_then_run(
    database: Database,
    org_id: str | None,
    lock: Callable[[Tx], Awaitable[Locked]],
    work: Callable[[Tx, Locked], Awaitable[T]],
) -> T:
    """`run_transaction`, with the result of `lock`. If `lock` takes too long, another transaction is the cause: it never raises
    TransactionLost."""
    locked = False

    async def noting(tx: Tx) -> T:
        nonlocal locked
        locked = False  # the database may run this again
        held = await lock(tx)
        locked = True
        return await work(tx, held)

    try:
        return await database.run(org_id, noting)
    except TocsinError as error:
        if locked and _may_be_to_blame(error):
            raise TransactionLost(error.reason, error.message) from error
        raise


async def bisect(
    items: Sequence[T], work: Callable[[Sequence[T]], Awaitable[object]], failed: Callable[[T], None]
) -> None:
    """Runs `work` with the whole set. If it raises, runs it with halves of the set, down to the item that fails, and calls
    `failed` for that one.

    `work` is one transaction, so its writes are undone when it raises. Raises DATABASE_UNAVAILABLE, which holds for all items:
    the database is away. It does not raise TransactionLost: the item that causes it would end each round before the others were
    handled. `failed` is called while the exception is handled.
    """
    try:
        await work(items)
    except Exception as error:
        if _is_away(error):
            raise
        if len(items) == 1:
            failed(items[0])
            return
        middle = len(items) // 2
        await bisect(items[:middle], work, failed)
        await bisect(items[middle:], work, failed)


def _is_away(error: Exception) -> bool:
    return (
        isinstance(error, TocsinError)
        and not isinstance(error, TransactionLost)
        and error.reason == reasons.ERROR_REASON_DATABASE_UNAVAILABLE
    )


def _may_be_to_blame(error: TocsinError) -> bool:
    """Whether the database ended a transaction in a way whose cause may be the work of the transaction.

    A server that is full, read-only or denies a right is away for all work alike.
    """
    return error.reason == reasons.ERROR_REASON_DATABASE_UNAVAILABLE and not is_of_server(error)
