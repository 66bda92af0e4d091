"""Resolving incidents by their ids, in sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.events import Resolved
from tocsin_ingest.store.alerts.events import ALERTS_ADDED, INCIDENT_EVENT, encode

_RESOLVE: Final = """
WITH closed_alerts AS (
  UPDATE alerts SET state = 'resolved', resolve_time = app_now()
  WHERE incident_id = ANY($2) AND org_id IS NOT DISTINCT FROM $1 AND state = 'firing'
)
UPDATE incidents SET state = 'resolved', firing_count = 0, event_sequence = event_sequence + 1,
  resolve_time = app_now(), resolved_by = $3
WHERE id = ANY($2) AND org_id IS NOT DISTINCT FROM $1 AND state = 'open'
RETURNING id, event_sequence
"""


# Held back by no silence and due at once: the next round for ended silences opens an incident for alerts that still fire.
_SPARE: Final = """
WITH spared AS (
  UPDATE alerts SET state = 'suppressed', incident_id = NULL
  FROM unnest($2::uuid[], $3::timestamptz[]) AS over (id, time)
  WHERE alerts.incident_id = ANY(ARRAY[over.id]) AND alerts.org_id IS NOT DISTINCT FROM $1 AND alerts.state = 'firing'
    AND alerts.last_receive_time > over.time
  RETURNING alerts.id
)
INSERT INTO alert_holds (org_id, alert_id, silence_id, due_time)
SELECT $1, id, '00000000-0000-0000-0000-000000000000', app_now() FROM spared
ON CONFLICT (alert_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class KnownIncident:
    """An incident that exists."""

    integration_id: str
    open: bool
    sequence: int


async def find(tx: Tx, incident_ids: Sequence[UUID]) -> dict[UUID, KnownIncident]:
    """Those of the incidents that the tenant has."""
    rows = await tx.fetch(
        """SELECT id, integration_id, state, event_sequence FROM incidents
        WHERE id = ANY($2) AND org_id IS NOT DISTINCT FROM $1""",
        tx.org_id,
        incident_ids,
    )
    return {
        row["id"]: KnownIncident(row["integration_id"], row["state"] == "open", row["event_sequence"]) for row in rows
    }


async def spare(tx: Tx, over: Sequence[tuple[UUID, datetime]]) -> None:
    """Takes firing alerts out of incidents (id, when it was over) that came after it; they open or join another one.

    To be called before the incidents are resolved, in the same transaction. Their integrations must be locked.
    """
    await tx.execute(_SPARE, tx.org_id, [each for each, _ in over], [time for _, time in over])


async def resolve(tx: Tx, incident_ids: Sequence[UUID], actor: str, because: str = "") -> dict[UUID, int]:
    """Closes those that are open, with their firing alerts, and tells escalation; the numbers of their last events.

    `because`: said in the timeline when neither a sender nor a person resolves them.

    Their integrations must be locked.
    """
    rows = await tx.fetch(_RESOLVE, tx.org_id, incident_ids, actor)
    closed = {row["id"]: row["event_sequence"] for row in rows}
    if closed:
        # An undelivered event of an incident is delivered before its next one, so it must not wait for more duplicates.
        await outbox.hurry(tx, ALERTS_ADDED, [str(each) for each in closed])
        messages = [
            (str(each), encode(tx.org_id, each, sequence, Resolved(actor, because)))
            for each, sequence in closed.items()
        ]
        await outbox.append_many(tx, INCIDENT_EVENT, messages)
    return closed
