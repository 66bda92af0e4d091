"""When alerts are over that their sender does not send again. The row is the timer: it needs no copy elsewhere."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.decision import AlertState
from tocsin_ingest.domain.expiry import Ending
from tocsin_ingest.store.alerts.intakes import able_since

# As `Ending.then`.
WRITE: Final = """
INSERT INTO alert_endings (org_id, alert_id, end_time, lasts, named)
SELECT $1, alert_id, end_time, lasts, named
FROM unnest($2::uuid[], $3::timestamptz[], $4::interval[], $5::boolean[]) AS u(alert_id, end_time, lasts, named)
ON CONFLICT (alert_id) DO UPDATE SET end_time = excluded.end_time, lasts = excluded.lasts, named = excluded.named
WHERE alert_endings.org_id = excluded.org_id AND NOT (alert_endings.named AND alert_endings.end_time > excluded.end_time)
"""
# The recursion walks from tenant to tenant by index, however many alerts each of them has. Tenants alternate: the alert of one
# tenant must not wait behind a hundred thousand alerts of another.
DUE: Final = """
WITH RECURSIVE orgs AS (
  (SELECT org_id FROM alert_endings ORDER BY org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT e.org_id FROM alert_endings AS e WHERE e.org_id > orgs.org_id ORDER BY e.org_id LIMIT 1)
  FROM orgs WHERE orgs.org_id IS NOT NULL
), turns AS (
  SELECT orgs.org_id, mine.alert_id, mine.end_time,
    row_number() OVER (PARTITION BY orgs.org_id ORDER BY mine.end_time) AS turn
  FROM orgs CROSS JOIN LATERAL (
    SELECT alert_id, end_time FROM alert_endings
    WHERE alert_endings.org_id = orgs.org_id AND end_time <= app_now() ORDER BY end_time LIMIT $1
  ) AS mine
  WHERE orgs.org_id <> ALL($2::text[])
), taken AS (
  SELECT org_id, alert_id, turn, end_time FROM turns ORDER BY turn, end_time LIMIT $1
)
SELECT taken.org_id, taken.alert_id, alerts.integration_id
FROM taken JOIN alerts ON alerts.id = ANY(ARRAY[taken.alert_id]) AND alerts.org_id IS NOT DISTINCT FROM taken.org_id
  AND state <> 'resolved'
ORDER BY turn, end_time
"""
PUT_OFF: Final = f"""
UPDATE alert_endings SET end_time = late.end_time
FROM (
  SELECT e.alert_id, {able_since("$3")} + e.lasts AS end_time
  FROM alert_endings AS e JOIN alerts ON alerts.id = ANY(ARRAY[e.alert_id]) AND alerts.org_id IS NOT DISTINCT FROM e.org_id
    AND alerts.state <> 'resolved'
  LEFT JOIN integrations ON integrations.org_id = alerts.org_id AND integrations.integration_id = alerts.integration_id
  WHERE e.alert_id = ANY($2) AND e.org_id IS NOT DISTINCT FROM $1
) AS late
WHERE alert_endings.alert_id = late.alert_id AND alert_endings.org_id IS NOT DISTINCT FROM $1
  AND late.end_time > greatest(alert_endings.end_time, app_now())
"""
TAKE: Final = """
DELETE FROM alert_endings USING alerts
WHERE alert_endings.alert_id = ANY($2) AND alert_endings.org_id IS NOT DISTINCT FROM $1 AND end_time <= app_now()
  AND alerts.id = ANY(ARRAY[alert_endings.alert_id]) AND alerts.org_id IS NOT DISTINCT FROM $1 AND alerts.state <> 'resolved'
RETURNING alerts.id, alerts.integration_id, alerts.dedup_key, alerts.key, alerts.state, alerts.summary, alerts.source,
  end_time, lasts, named
"""


@dataclass(frozen=True, slots=True)
class DueEnding:
    """An alert that may be over."""

    org_id: str
    alert_id: UUID
    integration_id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """An alert that is over, and the state in which it was. The rest as in `tocsin_ingest.domain.expiry.Ending`."""

    id: UUID
    integration_id: str
    dedup_key: str
    key: UUID
    state: AlertState
    summary: str
    source: str
    end_time: datetime
    lasts: timedelta
    named: bool


async def write(tx: Tx, endings: Mapping[UUID, Ending]) -> None:
    """Alerts were triggered, and these are their ends; one that is there holds if it was named and is later."""
    ids = sorted(endings)  # two batches touch rows in one order
    ends = [endings[each] for each in ids]
    await tx.execute(
        WRITE,
        tx.org_id,
        ids,
        [each.at for each in ends],
        [each.lasts for each in ends],
        [each.named for each in ends],
    )


async def due(tx: Tx, limit: int, *, without: Collection[str]) -> list[DueEnding]:
    """Up to `limit` alerts whose end has come, of all tenants but those in `without`."""
    return [DueEnding(*row) for row in await tx.fetch(DUE, limit, sorted(without))]


async def put_off(tx: Tx, alert_ids: Sequence[UUID], since: datetime) -> None:
    """Gives those of the tenant's alerts their whole time again that could not be repeated for a part of it.

    `since`: what `intakes.since` tells. The integrations must be locked for decisions.
    """
    await tx.execute(PUT_OFF, tx.org_id, list(alert_ids), since)


async def take(tx: Tx, alert_ids: Sequence[UUID]) -> list[Ended]:
    """Forgets the ends of those of the tenant's alerts whose end has come, and returns these alerts.

    The integrations must be locked for decisions, or a trigger that is being committed is not seen.
    """
    rows = await tx.fetch(TAKE, tx.org_id, list(alert_ids))
    return [Ended(**dict(row) | {"state": AlertState(row["state"])}) for row in rows]
