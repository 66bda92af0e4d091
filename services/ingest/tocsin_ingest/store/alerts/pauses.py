"""Alerts whose routing rule pauses them, and until when. The row is the timer: it needs no copy elsewhere."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.pauses import Pause
from tocsin_ingest.store.alerts.due_alerts import DueAlert, due_of, overdue_of, postpone_of

WRITE: Final = """
WITH gone AS (DELETE FROM alert_pauses WHERE alert_id = ANY($2) AND org_id IS NOT DISTINCT FROM $1)
INSERT INTO alert_pauses (org_id, alert_id, due_time, labels)
SELECT $1, alert_id, due_time, labels FROM unnest($3::uuid[], $4::timestamptz[], $5::bytea[]) AS u(alert_id, due_time, labels)
ON CONFLICT (alert_id) DO UPDATE SET due_time = excluded.due_time, labels = excluded.labels
WHERE alert_pauses.org_id = excluded.org_id
"""
DUE: Final = due_of("alert_pauses")
OVERDUE: Final = overdue_of("alert_pauses")
POSTPONE: Final = postpone_of("alert_pauses")


async def write(tx: Tx, pauses: Mapping[UUID, Pause | None]) -> None:
    """Writes what pauses alerts from now on; None: nothing."""
    ids = sorted(pauses)  # two batches touch rows in one order
    paused = [(each, pause) for each in ids if (pause := pauses[each]) is not None]
    await tx.execute(
        WRITE,
        tx.org_id,
        [each for each in ids if pauses[each] is None],
        [each for each, _ in paused],
        [pause.until for _, pause in paused],
        [pause.labels for _, pause in paused],
    )


async def due(tx: Tx, limit: int, *, without: Collection[str], since: datetime | None) -> list[DueAlert]:
    """Up to `limit` alerts whose pause is over, of all tenants but those in `without`.

    `since`: what `intakes.since` tells. None: nothing is known to be quiet.
    """
    return [DueAlert.of(row) for row in await tx.fetch(DUE, limit, sorted(without), since)]


async def drop(tx: Tx, alert_ids: Sequence[UUID]) -> None:
    """Forgets pauses of alerts that fire, or were resolved."""
    await tx.execute("DELETE FROM alert_pauses WHERE org_id = $1 AND alert_id = ANY($2)", tx.org_id, list(alert_ids))


async def postpone(tx: Tx, alert_id: UUID, seconds: float) -> None:
    """Looks at an alert later: it must not be the first of every round for ever."""
    await tx.execute(POSTPONE, tx.org_id, alert_id, seconds)


async def overdue(tx: Tx, seconds: float) -> int:
    """How many alerts of all tenants were due longer ago than this, up to 1,000."""
    found: int = await tx.fetchval(OVERDUE, seconds)
    return found
