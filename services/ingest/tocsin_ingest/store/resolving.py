"""Resolving incidents by their ids, in sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.events import Resolved
from tocsin_ingest.store.events import ALERTS_ADDED, INCIDENT_EVENT, encode

_RESOLVE = """
WITH closed_alerts AS (
  UPDATE alerts SET state = 'resolved', resolve_time = app_now()
  WHERE incident_id = ANY($2) AND org_id IS NOT DISTINCT FROM $1 AND state = 'firing'
)
UPDATE incidents SET state = 'resolved', firing_count = 0, event_sequence = event_sequence + 1,
  resolve_time = app_now(), resolved_by = $3
WHERE id = ANY($2) AND org_id IS NOT DISTINCT FROM $1 AND state = 'open'
RETURNING id, event_sequence
"""


@dataclass(frozen=True, slots=True)
class Known:
    """An incident that exists."""

    integration_id: str
    open: bool
    sequence: int


async def find(tx: Tx, incident_ids: Sequence[UUID]) -> dict[UUID, Known]:
    """Those of the incidents that the tenant has."""
    rows = await tx.fetch(
        """SELECT id, integration_id, state, event_sequence FROM incidents
        WHERE id = ANY($2) AND org_id IS NOT DISTINCT FROM $1""",
        tx.org_id,
        incident_ids,
    )
    return {row["id"]: Known(row["integration_id"], row["state"] == "open", row["event_sequence"]) for row in rows}


async def resolve(tx: Tx, incident_ids: Sequence[UUID], actor: str, because: str = "") -> dict[UUID, int]:
    """Closes those that are open, with their firing alerts, and tells escalation; the numbers of their last events.

    `because`: said in the timeline when neither a sender nor a person resolves them.

    Their integrations must be locked.
    """
    rows = await tx.fetch(_RESOLVE, tx.org_id, incident_ids, actor)
    closed = {row["id"]: row["event_sequence"] for row in rows}
    if closed:
        # An undelivered event of an incident goes before its next one, so it must not wait for more duplicates any longer.
        await outbox.hurry(tx, ALERTS_ADDED, [str(each) for each in closed])
        messages = [
            (str(each), encode(tx.org_id, each, sequence, Resolved(actor, because)))
            for each, sequence in closed.items()
        ]
        await outbox.append_many(tx, INCIDENT_EVENT, messages)
    return closed
