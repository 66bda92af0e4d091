"""Alerts that silences hold back, and when each is looked at again. The row is the timer: it needs no copy elsewhere."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.silences import Hold
from tocsin_ingest.store.alerts.due_alerts import DueAlert, due_of, overdue_of, postpone_of

WRITE: Final = """
WITH gone AS (DELETE FROM alert_holds WHERE alert_id = ANY($2) AND org_id IS NOT DISTINCT FROM $1)
INSERT INTO alert_holds (org_id, alert_id, silence_id, due_time, labels)
SELECT $1, alert_id, silence_id, due_time, labels FROM unnest($3::uuid[], $4::uuid[], $5::timestamptz[], $6::bytea[])
  AS u(alert_id, silence_id, due_time, labels)
ON CONFLICT (alert_id) DO UPDATE SET silence_id = excluded.silence_id, due_time = excluded.due_time, labels = excluded.labels
WHERE alert_holds.org_id = excluded.org_id
"""
# A silence that was changed while this runs has another version, and stays marked. Within a silence by due time, which is first
# in an index: rows that earlier batches have moved are not read again.
HURRY: Final = """
WITH changed AS (
  SELECT org_id, id, version FROM silences WHERE changed ORDER BY org_id, id LIMIT 100
), held AS (
  SELECT mine.alert_id FROM changed CROSS JOIN LATERAL (
    SELECT alert_id FROM alert_holds AS h
    WHERE h.org_id = changed.org_id AND h.silence_id = changed.id AND h.due_time > app_now() ORDER BY h.due_time LIMIT $1
  ) AS mine LIMIT $1
), moved AS (
  UPDATE alert_holds SET due_time = app_now() WHERE alert_id IN (SELECT alert_id FROM held ORDER BY alert_id)
  RETURNING 1
), done AS (
  UPDATE silences SET changed = false FROM changed
  WHERE silences.org_id = changed.org_id AND silences.id = changed.id AND silences.version = changed.version
    AND (SELECT count(*) FROM moved) < $1
)
SELECT count(*) FROM moved
"""
DUE: Final = due_of("alert_holds")
OVERDUE: Final = overdue_of("alert_holds")
POSTPONE: Final = postpone_of("alert_holds")


async def write(tx: Tx, holds: Mapping[UUID, Hold | None]) -> None:
    """Writes what holds alerts back from now on; None: nothing."""
    ids = sorted(holds)  # two batches touch rows in one order
    held = [(each, hold) for each in ids if (hold := holds[each]) is not None]
    await tx.execute(
        WRITE,
        tx.org_id,
        [each for each in ids if holds[each] is None],
        [each for each, _ in held],
        [hold.silence_id for _, hold in held],
        [hold.until for _, hold in held],
        [hold.labels for _, hold in held],
    )


async def hurry(tx: Tx, limit: int) -> int:
    """Makes up to `limit` alerts of all tenants due whose silences were changed; how many that were."""
    moved: int = await tx.fetchval(HURRY, limit)
    return moved


async def due(tx: Tx, limit: int, *, without: Collection[str], since: datetime | None) -> list[DueAlert]:
    """Up to `limit` alerts that are due, of all tenants but those in `without`.

    `since`: what `intakes.since` tells. None: nothing is known to be quiet.
    """
    return [DueAlert.of(row) for row in await tx.fetch(DUE, limit, sorted(without), since)]


async def drop(tx: Tx, alert_ids: Sequence[UUID]) -> None:
    """Forgets holds of alerts that are held back no more."""
    await tx.execute("DELETE FROM alert_holds WHERE org_id = $1 AND alert_id = ANY($2)", tx.org_id, list(alert_ids))


async def postpone(tx: Tx, alert_id: UUID, seconds: float) -> None:
    """Postpone an alert: otherwise it would be the first of every round for ever."""
    await tx.execute(POSTPONE, tx.org_id, alert_id, seconds)


async def overdue(tx: Tx, seconds: float) -> int:
    """How many alerts of all tenants were due longer ago than this, up to 1,000."""
    found: int = await tx.fetchval(OVERDUE, seconds)
    return found
