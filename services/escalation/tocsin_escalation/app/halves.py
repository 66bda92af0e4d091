"""Work on many things together, in which one that fails holds up no other."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.failures import is_of_server
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

T = TypeVar("T")
Locked = TypeVar("Locked")


class Lost(TocsinError):
    """The database ended a transaction after it had begun. What was done in it may be why: it took too long, or too much."""


async def begun(database: Database, org_id: str | None, work: Callable[[Tx], Awaitable[T]]) -> T:
    """`Database.run`. Raises Lost for DATABASE_UNAVAILABLE once `work` has begun, if that may be the reason."""

    async def nothing(tx: Tx) -> None:
        pass

    return await begun_after(database, org_id, nothing, lambda tx, _: work(tx))


async def begun_after(
    database: Database,
    org_id: str | None,
    lock: Callable[[Tx], Awaitable[Locked]],
    work: Callable[[Tx, Locked], Awaitable[T]],
) -> T:
    """`begun`, with what `lock` gave. That it takes too long is the fault of another transaction: it never raises Lost."""
    locked = False

    async def noting(tx: Tx) -> T:
        nonlocal locked
        locked = False  # the database may run this anew
        held = await lock(tx)
        locked = True
        return await work(tx, held)

    try:
        return await database.run(org_id, noting)
    except TocsinError as error:
        if locked and _may_be_to_blame(error):
            raise Lost(error.reason, error.message) from error
        raise


async def in_halves(
    items: Sequence[T], work: Callable[[Sequence[T]], Awaitable[object]], failed: Callable[[T], None]
) -> None:
    """`work` with all of them; where it raises, with their halves, down to the one that fails, of which `failed` is told.

    `work` is one transaction, so what it has done before it raises is undone. Raises DATABASE_UNAVAILABLE, which stands for all of
    them: the database is away. Not so Lost: one whose fault it is would end each round before the others had their turn.
    `failed` is called while the exception is handled.
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
        await in_halves(items[:middle], work, failed)
        await in_halves(items[middle:], work, failed)


def _is_away(error: Exception) -> bool:
    return (
        isinstance(error, TocsinError)
        and not isinstance(error, Lost)
        and error.reason == reasons.ERROR_REASON_DATABASE_UNAVAILABLE
    )


def _may_be_to_blame(error: TocsinError) -> bool:
    """Whether the database ended a transaction in such a way that what was done in it may be why.

    It is not when the server is full, is read-only or denies a right: then the database is away, for all alike.
    """
    return error.reason == reasons.ERROR_REASON_DATABASE_UNAVAILABLE and not is_of_server(error)
