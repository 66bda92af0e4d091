"""How many alerts of an integration were refused, and when its people were last told."""

from dataclasses import dataclass
from typing import Final

from tocsin_kit.db.pool import Tx

_ADD: Final = """
INSERT INTO refused_alerts (org_id, integration_id, refused, reason) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_id, integration_id)
DO UPDATE SET refused = refused_alerts.refused + excluded.refused, reason = excluded.reason
RETURNING refused, report_time IS NULL OR report_time <= app_now() - interval '1 hour' AS due
"""
_TOLD: Final = """
UPDATE refused_alerts SET refused = 0, report_time = app_now() WHERE org_id = $1 AND integration_id = $2
"""
_NOT_TOLD: Final = """
UPDATE refused_alerts SET refused = refused + $3, report_time = app_now() - interval '1 hour'
WHERE org_id = $1 AND integration_id = $2
"""
_DUE: Final = """
WITH due AS (
  SELECT org_id, integration_id, refused, reason FROM refused_alerts
  WHERE refused > 0 AND report_time <= app_now() - interval '1 hour'
  ORDER BY report_time LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE refused_alerts r SET refused = 0, report_time = app_now() FROM due d
WHERE r.org_id = d.org_id AND r.integration_id = d.integration_id
RETURNING d.org_id, d.integration_id, d.refused, d.reason
"""


@dataclass(frozen=True, slots=True)
class Untold:
    """An integration whose people are to be told of so many `refused` alerts, the last of them for this `reason`."""

    org_id: str
    integration_id: str
    refused: int
    reason: str


async def add(tx: Tx, integration_id: str, number: int, reason: str) -> int | None:
    """Adds `number` refused alerts. When the last report is an hour old or older, they count as reported from now on:
    how many there were since the last report. Else None.
    """
    row = await tx.fetchrow(_ADD, tx.org_id, integration_id, number, reason[:1000].replace("\0", "\ufffd"))
    assert row is not None
    if not row["due"]:
        return None
    await tx.execute(_TOLD, tx.org_id, integration_id)
    refused: int = row["refused"]
    return refused


async def due(tx: Tx, limit: int) -> list[Untold]:
    """What was refused since a report that is an hour old or older, of all tenants. It counts as reported from now on."""
    return [Untold(*row) for row in await tx.fetch(_DUE, limit)]


async def not_told(tx: Tx, integration_id: str, number: int) -> None:
    """The report of these did not succeed: they are due again."""
    await tx.execute(_NOT_TOLD, tx.org_id, integration_id, number)
