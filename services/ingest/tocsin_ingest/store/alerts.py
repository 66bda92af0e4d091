"""Reading alerts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_ingest.domain.decide import AlertState
from tocsin_ingest.domain.severity import Severity


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert. `newest` is the serialized `AlertInput` of its newest trigger."""

    id: UUID
    integration_id: str
    dedup_key: str
    state: AlertState
    incident_id: UUID | None
    severity: Severity
    newest: bytes
    count: int
    create_time: datetime
    last_receive_time: datetime
    resolve_time: datetime | None
    silence_id: UUID | None
    """What holds it back, until `due_time`."""
    due_time: datetime | None


# What is suppressed alone may be held; code before silences could leave a hold behind with an alert that is not.
_FROM: Final = """(SELECT alerts.*, alert_holds.silence_id, alert_holds.due_time FROM alerts
  LEFT JOIN alert_holds ON alert_holds.alert_id = CASE WHEN alerts.state = 'suppressed' THEN alerts.id END
    AND alert_holds.org_id IS NOT DISTINCT FROM alerts.org_id) AS alerts"""
_COLUMNS: Final = columns(AlertRow)


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts; None: any."""

    incident_id: UUID | None = None
    integration_id: str | None = None
    dedup_key: str | None = None
    states: tuple[AlertState, ...] = ()
    silence_id: UUID | None = None


async def get(tx: Tx, alert_id: UUID) -> AlertRow | None:
    """One alert of the tenant."""
    row = await tx.fetchrow(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1", tx.org_id, alert_id
    )
    return _row(row) if row else None


async def page(tx: Tx, wanted: AlertFilter, before: UUID | None, limit: int) -> Sequence[AlertRow]:
    """Up to `limit` alerts, newest first, those before `before`. Ids are time-ordered, so they are the order."""
    conditions = ["org_id = $1"]
    parameters: list[object] = [tx.org_id]
    filters: tuple[tuple[str, object], ...] = (
        ("incident_id = ", wanted.incident_id),
        ("integration_id = ", wanted.integration_id),
        ("dedup_key = ", wanted.dedup_key),
        ("id < ", before),
    )
    for condition, value in filters:
        if value is not None:
            parameters.append(value)
            conditions.append(f"{condition}${len(parameters)}")
    if wanted.states:
        parameters.append(list(wanted.states))
        conditions.append(f"state = ANY(${len(parameters)})")
    if wanted.silence_id is not None:
        parameters.append(wanted.silence_id)
        held = f"SELECT alert_id FROM alert_holds WHERE org_id = $1 AND silence_id = ${len(parameters)}"
        conditions.append(f"state = 'suppressed' AND id IN ({held})")
    parameters.append(limit)
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ${len(parameters)}",
        *parameters,
    )
    return [_row(row) for row in rows]


def _row(row: asyncpg.Record) -> AlertRow:
    return AlertRow(
        row["id"],
        row["integration_id"],
        row["dedup_key"],
        AlertState(row["state"]),
        row["incident_id"],
        Severity(row["severity"]),
        row["newest"],
        row["count"],
        row["create_time"],
        row["last_receive_time"],
        row["resolve_time"],
        row["silence_id"],
        row["due_time"],
    )
