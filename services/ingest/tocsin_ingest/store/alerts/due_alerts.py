"""Suppressed alerts that wait in a table until they are decided again: those that a silence holds back, and paused ones."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.decision import AlertState
from tocsin_ingest.store.alerts.intakes import able_since


@dataclass(frozen=True, slots=True)
class DueAlert:
    """An alert that is to be looked at again. `newest` is the serialized `AlertInput` of its newest trigger.

    `labels`: see `tocsin_ingest.domain.message.Message`. `quiet`: it had no trigger for the time after which its integration
    resolves quiet incidents.
    """

    org_id: str
    id: UUID
    integration_id: str
    dedup_key: str
    key: UUID
    state: AlertState
    newest: bytes
    count: int
    start_time: datetime | None
    labels: bytes | None
    quiet: bool

    @classmethod
    def of(cls, row: asyncpg.Record) -> "DueAlert":
        """A row of `due_of`."""
        return cls(**dict(row) | {"state": AlertState(row["state"])})


def _orgs(table: str) -> str:
    """Goes from tenant to tenant by index, however many alerts each of them has."""
    return f"""orgs AS (
  (SELECT org_id FROM {table} ORDER BY org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT w.org_id FROM {table} AS w WHERE w.org_id > orgs.org_id ORDER BY w.org_id LIMIT 1)
  FROM orgs WHERE orgs.org_id IS NOT NULL
)"""


def due_of(table: str) -> str:
    """SQL: alerts of the table that are due, up to $1, of all tenants but those in $2; $3: what `intakes.since` tells.

    Tenants alternate: the alert of one tenant must not wait behind a hundred thousand alerts of another.
    """
    return f"""
WITH RECURSIVE {_orgs(table)}, turns AS (
  SELECT orgs.org_id, mine.alert_id, mine.labels, mine.due_time,
    row_number() OVER (PARTITION BY orgs.org_id ORDER BY mine.due_time) AS turn
  FROM orgs CROSS JOIN LATERAL (
    SELECT alert_id, labels, due_time FROM {table}
    WHERE {table}.org_id = orgs.org_id AND due_time <= app_now() ORDER BY due_time LIMIT $1
  ) AS mine
  WHERE orgs.org_id <> ALL($2::text[])
), taken AS (
  SELECT org_id, alert_id, labels, turn, due_time FROM turns ORDER BY turn, due_time LIMIT $1
)
SELECT alerts.org_id, alerts.id, alerts.integration_id, dedup_key, key, state, newest, count, start_time, taken.labels,
  coalesce($3::timestamptz IS NOT NULL AND {able_since("$3")} <= app_now() - auto_resolve_after
    AND last_receive_time <= app_now() - auto_resolve_after, false) AS quiet
FROM taken JOIN alerts ON alerts.id = ANY(ARRAY[taken.alert_id]) AND alerts.org_id IS NOT DISTINCT FROM taken.org_id
  AND state <> 'resolved'
LEFT JOIN integrations ON integrations.org_id = alerts.org_id AND integrations.integration_id = alerts.integration_id
ORDER BY turn, due_time
"""


def any_due_of(table: str) -> str:
    """SQL: whether an alert of the table is due, of any tenant."""
    return f"""(
WITH RECURSIVE {_orgs(table)}
SELECT count(*) > 0 FROM (
  SELECT 1 FROM orgs CROSS JOIN LATERAL (
    SELECT 1 FROM {table} AS w WHERE w.org_id = orgs.org_id AND w.due_time <= app_now() LIMIT 1) AS mine LIMIT 1) AS found
)"""


ANY_DUE: Final = (
    f"SELECT EXISTS (SELECT FROM silences WHERE changed) OR {any_due_of('alert_holds')} OR {any_due_of('alert_pauses')}"
)


async def is_any_due(tx: Tx) -> bool:
    """Whether there is an alert to look at again, or a silence that was changed, of any tenant."""
    found: bool = await tx.fetchval(ANY_DUE)
    return found


def overdue_of(table: str) -> str:
    """SQL: how many alerts of the table were due longer ago than $1 seconds, up to 1,000. Alerts that are not due are not read."""
    return f"""
WITH RECURSIVE {_orgs(table)}
SELECT count(*) FROM (
  SELECT 1 FROM orgs CROSS JOIN LATERAL (
    SELECT 1 FROM {table} AS w WHERE w.org_id = orgs.org_id AND w.due_time < app_now() - make_interval(secs => $1) LIMIT 1000
  ) AS mine LIMIT 1000) AS counted
"""


def postpone_of(table: str) -> str:
    """SQL: postpone the alert $2 of the tenant $1 by $3 seconds: otherwise it would be the first of every round for ever."""
    return f"""UPDATE {table} SET due_time = app_now() + make_interval(secs => $3)
WHERE org_id = $1 AND alert_id = $2 AND due_time <= app_now()"""
