"""Incidents as ingest's own record holds them: enough to open one in escalation anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.domain.severity import Severity

COLUMNS: Final = """incidents.org_id, incidents.id, integration_id, severity, policy, title, first_alert, alert_count,
  event_sequence AS sequence, create_time, resolved_by"""
_READ: Final = f"""
SELECT {COLUMNS} FROM unnest($1::text[], $2::uuid[]) AS asked (org_id, id)
JOIN incidents ON incidents.id = asked.id AND incidents.org_id IS NOT DISTINCT FROM asked.org_id
"""
_OVER: Final = f"""
SELECT asked.org_id, asked.id, resolved_by FROM unnest($1::text[], $2::uuid[]) AS asked (org_id, id)
JOIN incidents ON incidents.id = asked.id AND incidents.org_id IS NOT DISTINCT FROM asked.org_id
WHERE resolved_by <> '{INGEST}'
"""
"""What ingest itself resolves, because nothing was heard for long, may well last: it pages."""


@dataclass(frozen=True, slots=True)
class IncidentRecord:
    """One incident. `first_alert` is a serialized `AlertInput`; `resolved_by` is None while it is open."""

    org_id: str
    id: UUID
    integration_id: str
    severity: Severity
    policy: str
    title: str
    first_alert: bytes
    alert_count: int
    sequence: int
    create_time: datetime
    resolved_by: str | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> "IncidentRecord":
        """A row of `COLUMNS`."""
        values = dict(row)
        return cls(**values | {"severity": Severity(values["severity"])})


async def read(tx: Tx, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], IncidentRecord]:
    """Those of the incidents (tenant, id) that ingest has; of any tenants, in a system transaction."""
    rows = await tx.fetch(_READ, [org_id for org_id, _ in wanted], [incident_id for _, incident_id in wanted])
    return {(record.org_id, record.id): record for record in map(IncidentRecord.of, rows)}


async def over(tx: Tx, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], str]:
    """By whom or what those of the incidents (tenant, id) were resolved that are; of any tenants, in a system transaction."""
    rows = await tx.fetch(_OVER, [org_id for org_id, _ in wanted], [incident_id for _, incident_id in wanted])
    return {(org_id, incident_id): resolved_by for org_id, incident_id, resolved_by in rows}
