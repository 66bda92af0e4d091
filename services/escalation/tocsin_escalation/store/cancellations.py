"""Cancellations of pages that are still on their way to notify: rows of the outbox."""

from collections.abc import Sequence
from uuid import UUID

from tocsin_kit.db.pool import Tx


async def pending(tx: Tx, incident_ids: Sequence[UUID]) -> list[tuple[int, bytes]]:
    """Those of these incidents that notify has not confirmed: row id and payload, in the order of their ids."""
    records = await tx.fetch(
        """SELECT id, payload FROM outbox WHERE ordering_key = ANY($2::text[]) AND ordering_key <> ''
             AND org_id IS NOT DISTINCT FROM $1 AND kind = 'cancel' AND dead_time IS NULL ORDER BY id""",
        tx.org_id,
        [str(id_) for id_ in incident_ids],
    )
    return [(record["id"], record["payload"]) for record in records]


async def forget(tx: Tx, ids: Sequence[int]) -> None:
    """Notify has confirmed these: the relay need not deliver them any more."""
    await tx.execute(
        "DELETE FROM outbox WHERE id = ANY($2::bigint[]) AND org_id IS NOT DISTINCT FROM $1", tx.org_id, list(ids)
    )
