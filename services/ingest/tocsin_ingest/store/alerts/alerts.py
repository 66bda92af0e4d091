"""Reading alerts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Filtered, Statement, columns_of, constant, param

from tocsin_ingest.domain.decision import AlertState
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.store.tables import alert_holds, alert_pauses, alert_thresholds, alerts, group_triggers


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
    pause_time: datetime | None
    """Until when it is paused."""
    threshold_count: int | None
    """So many triggers of its group open the incident that it waits for, within `threshold_lasts`."""
    threshold_lasts: timedelta | None
    threshold_triggers: int
    """How many of them have come."""


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts; None: any."""

    incident_id: UUID | None = None
    integration_id: str | None = None
    dedup_key: str | None = None
    states: tuple[AlertState, ...] = ()
    silence_id: UUID | None = None


# Only a suppressed alert may be held; code before silences could leave a hold behind with another one.
_SUPPRESSED: Final = alerts.c.state == constant("suppressed")
_HOLD: Final = sa.and_(
    alert_holds.c.alert_id == sa.case((_SUPPRESSED, alerts.c.id)),
    alert_holds.c.org_id.is_not_distinct_from(alerts.c.org_id),
)
_PAUSE: Final = sa.and_(
    alert_pauses.c.alert_id == sa.case((_SUPPRESSED, alerts.c.id)),
    alert_pauses.c.org_id.is_not_distinct_from(alerts.c.org_id),
)
_BELOW: Final = sa.and_(
    alert_thresholds.c.alert_id == sa.case((_SUPPRESSED, alerts.c.id)),
    alert_thresholds.c.org_id.is_not_distinct_from(alerts.c.org_id),
)
_TRIGGERS: Final = (
    sa.select(sa.func.coalesce(sa.func.sum(group_triggers.c.count), constant(0)))
    .where(
        group_triggers.c.group_key == alert_thresholds.c.group_key,
        group_triggers.c.org_id.is_not_distinct_from(alerts.c.org_id),
        group_triggers.c.time > sa.func.app_now() - alert_thresholds.c.lasts,
    )
    .scalar_subquery()
)
_SELECT: Final = (
    sa.select(
        *columns_of(
            alerts,
            AlertRow,
            silence_id=alert_holds.c.silence_id,
            due_time=alert_holds.c.due_time,
            pause_time=alert_pauses.c.due_time.label("pause_time"),
            threshold_count=alert_thresholds.c.count.label("threshold_count"),
            threshold_lasts=alert_thresholds.c.lasts.label("threshold_lasts"),
            threshold_triggers=_TRIGGERS.label("threshold_triggers"),
        )
    )
    .outerjoin_from(alerts, alert_holds, _HOLD)
    .outerjoin(alert_pauses, _PAUSE)
    .outerjoin(alert_thresholds, _BELOW)
)
_HELD: Final = alert_holds.alias("held")
_HELD_BY: Final = sa.select(_HELD.c.alert_id).where(
    _HELD.c.org_id == param("org_id"), _HELD.c.silence_id == param("silence_id")
)
_GET: Final = Statement(
    # Compared with `IS NOT DISTINCT FROM`, the tenant uses no index, so the planner uses that of the id.
    _SELECT.where(alerts.c.id == param("id"), alerts.c.org_id.is_not_distinct_from(param("org_id")))
)
_PAGE: Final = Filtered(
    _SELECT.where(alerts.c.org_id == param("org_id")).order_by(alerts.c.id.desc()).limit(param("limit")),
    alerts.c.incident_id == param("incident_id"),
    alerts.c.integration_id == param("integration_id"),
    alerts.c.dedup_key == param("dedup_key"),
    alerts.c.state == sa.any_(param("states", sa.ARRAY(sa.Text))),
    sa.and_(_SUPPRESSED, alerts.c.id.in_(_HELD_BY)),
    alerts.c.id < param("before"),
)

# However long the history is: the newest are read from an index.
_FIRING_KEYS: Final = """
SELECT dedup_key FROM (
  SELECT DISTINCT ON (incident_id) id, dedup_key FROM (
    SELECT id, incident_id, dedup_key, state FROM alerts WHERE org_id = $1 AND integration_id = $2 ORDER BY id DESC LIMIT 500
  ) AS newest WHERE state = 'firing' ORDER BY incident_id, id DESC
) AS firing ORDER BY id DESC LIMIT 20
"""


async def get(tx: Tx, alert_id: UUID) -> AlertRow | None:
    """One alert of the tenant."""
    row = await tx.fetchrow(*_GET(org_id=tx.org_id, id=alert_id))
    return _row(row) if row else None


async def page(tx: Tx, wanted: AlertFilter, before: UUID | None, limit: int) -> Sequence[AlertRow]:
    """Up to `limit` alerts, newest first, those before `before`. Ids are time-ordered, so they are the order."""
    page = _PAGE(
        org_id=tx.org_id,
        limit=limit,
        incident_id=wanted.incident_id,
        integration_id=wanted.integration_id,
        dedup_key=wanted.dedup_key,
        states=list(wanted.states) or None,
        silence_id=wanted.silence_id,
        before=before,
    )
    return [_row(row) for row in await tx.fetch(*page)]


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
        row["pause_time"],
        row["threshold_count"],
        row["threshold_lasts"],
        row["threshold_triggers"],
    )


async def firing_keys(tx: Tx, integration_id: str) -> list[str]:
    """The dedup key of one firing alert of each incident, of the integration's newest 500 alerts and 20 incidents."""
    rows = await tx.fetch(_FIRING_KEYS, tx.org_id, integration_id)
    return [row["dedup_key"] for row in rows]
