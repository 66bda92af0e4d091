"""How many objects of a kind a tenant may have: a tenant that makes them without end must not fill the disk for everyone."""

from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.budgets import OBJECTS, Budgets
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

_RETRY_AFTER: Final = 60.0


async def require_room(tx: Tx, table: str, budgets: Budgets, *, where: str = "true") -> None:
    """Raises LIMIT_REACHED when the tenant of the transaction may have no more rows in `table` (a constant of the caller's).

    `where`: the condition of the rows that count, if not all do; a constant as well.

    Concurrent calls may together exceed it: the tenant then has a few more than its limit.
    """
    most = budgets.allowed(tx.org_id, OBJECTS)
    count: int = await tx.fetchval(
        f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE org_id = $1 AND {where} LIMIT $2) AS counted",
        tx.org_id,
        most,
    )
    if count >= most:
        budgets.note_refusal(tx.org_id, OBJECTS)
        raise TocsinError(
            ErrorReason.ERROR_REASON_LIMIT_REACHED,
            f"the tenant has {most} {table}, and may have no more; delete some, or ask the operator for a higher limit",
            metadata={"limit": table, "allowed": str(most)},
            retry_after=_RETRY_AFTER,
        )
