"""Open incidents for which no trigger has come for as long as their integration says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_ingest.store.alerts.intakes import able_since

# An incident may begin with an old alert: one that a silence had held back. An alert that was resolved counts as well: its sender
# was alive at that time.
_QUIET: Final = f"""integrations.auto_resolve_after IS NOT NULL
    AND $3::timestamptz IS NOT NULL AND {able_since("$3")} <= app_now() - integrations.auto_resolve_after
    AND incidents.create_time <= app_now() - integrations.auto_resolve_after AND NOT EXISTS (
    SELECT FROM alerts WHERE alerts.incident_id = incidents.id AND alerts.org_id IS NOT DISTINCT FROM incidents.org_id
      AND alerts.last_receive_time > app_now() - integrations.auto_resolve_after)"""
_WANTED: Final = "SELECT EXISTS (SELECT FROM integrations WHERE auto_resolve_after IS NOT NULL)"
# By group key, because an index of the open incidents in that order is there already. An incident whose group goes on in
# another one gets another key, and may come twice in a round or not at all; the next round has it.
_OPEN_AFTER: Final = f"""
WITH page AS MATERIALIZED (
  SELECT group_key, org_id, id, integration_id, create_time FROM incidents
  WHERE state = 'open' AND group_key > $1 ORDER BY group_key LIMIT $2)
SELECT incidents.group_key, incidents.org_id, incidents.id, incidents.integration_id, coalesce({_QUIET}, false) AS quiet
FROM page AS incidents LEFT JOIN integrations USING (org_id, integration_id)
ORDER BY incidents.group_key
"""
_STILL: Final = f"""
SELECT incidents.id, integrations.auto_resolve_after FROM incidents
JOIN integrations USING (org_id, integration_id)
WHERE incidents.id = ANY($2) AND org_id IS NOT DISTINCT FROM $1 AND incidents.state = 'open' AND {_QUIET}
"""


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An open incident, and whether it is quiet."""

    group_key: UUID
    org_id: str
    id: UUID
    integration_id: str
    quiet: bool


async def wanted(tx: Tx) -> bool:
    """Whether any integration of any tenant wants its incidents resolved so."""
    return bool(await tx.fetchval(_WANTED))


async def open_after(tx: Tx, after: UUID, limit: int, since: datetime) -> list[OpenIncident]:
    """Up to `limit` open incidents of all tenants in the order of their group keys, behind `after`.

    `since`: what `intakes.since` tells. Time in which alerts could not be accepted does not make an incident quiet.
    """
    return [OpenIncident(*row) for row in await tx.fetch(_OPEN_AFTER, after, limit, since)]


async def still_quiet(tx: Tx, incident_ids: Sequence[UUID], since: datetime) -> dict[UUID, timedelta]:
    """Those of the tenant's incidents that are open and quiet, with the time after which they are to be resolved.

    Their integrations must be locked, or a trigger that is being committed is not seen.
    """
    rows = await tx.fetch(_STILL, tx.org_id, list(incident_ids), since)
    return {row["id"]: row["auto_resolve_after"] for row in rows}
