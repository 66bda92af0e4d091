"""The states of incidents, in sets and across tenants: ingest and notify compare their own records with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

_OF = """
SELECT e.org_id, e.incident_id, e.state = 'resolved' AS resolved, e.last_sequence AS sequence, e.resolve_time
FROM unnest($1::text[], $2::uuid[]) AS asked (org_id, incident_id)
JOIN escalations e ON e.incident_id = asked.incident_id AND e.org_id IS NOT DISTINCT FROM asked.org_id
"""
_OPEN_AFTER: Final = """
SELECT org_id, incident_id, false AS resolved, last_sequence AS sequence, NULL AS resolve_time
FROM escalations
WHERE state <> 'resolved' AND ($1::uuid IS NULL OR incident_id > $1) ORDER BY incident_id LIMIT $2
"""

# Each of these states begins by stopping all pages; pages that are sent while it lasts are of the next generations. Its entry has
# the first of them. When a state has ended and people are paged again, their older pages may still be stopped: that is not
# returned here.
_STOPS: Final = """
SELECT e.org_id, e.incident_id, entry.generation - 1 AS generation, entry.message AS reason, e.state = 'resolved' AS final
FROM unnest($1::text[], $2::uuid[]) AS asked (org_id, incident_id)
JOIN escalations e ON e.incident_id = asked.incident_id AND e.org_id IS NOT DISTINCT FROM asked.org_id
CROSS JOIN LATERAL (
  SELECT t.generation, t.message FROM timeline t WHERE t.incident_id = e.incident_id AND t.org_id = e.org_id AND t.kind = e.state
  ORDER BY t.id DESC LIMIT 1
) AS entry
WHERE e.state IN ('acknowledged', 'snoozed', 'merged', 'resolved') AND e.last_sequence > 0
"""


@dataclass(frozen=True, slots=True)
class Stop:
    """Pages of this generation and before are not sent; `final`: single messages such as reminders are not sent either."""

    org_id: str
    incident_id: UUID
    generation: int
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """One incident; `sequence` is the number of the last event that was applied."""

    org_id: str
    incident_id: UUID
    resolved: bool
    sequence: int
    resolve_time: datetime | None


async def of(tx: Tx, claims: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], Standing]:
    """Those of the incidents (tenant, id) that are known. One that never started (sequence 0) counts as unknown."""
    rows = await tx.fetch(_OF, [org_id for org_id, _ in claims], [incident_id for _, incident_id in claims])
    return {(row["org_id"], row["incident_id"]): Standing(*row) for row in rows if row["sequence"] > 0}


async def stops(tx: Tx, claims: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], Stop]:
    """What stopped the pages of those of these incidents that page no one at present."""
    rows = await tx.fetch(_STOPS, [org_id for org_id, _ in claims], [incident_id for _, incident_id in claims])
    return {(row["org_id"], row["incident_id"]): Stop(*row) for row in rows}


async def open_after(tx: Tx, after: UUID | None, limit: int) -> list[Standing]:
    """Up to `limit` unresolved incidents, in the order of their ids, after `after`."""
    return [Standing(*row) for row in await tx.fetch(_OPEN_AFTER, after, limit)]
