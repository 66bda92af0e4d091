"""How many alerts of an integration were refused, and when its people were last told."""

from typing import Final

from tocsin_kit.db.pool import Tx

from tocsin_ingest.store.alerts.untold import Untold, give_back_to, take_from

_ADD: Final = """
INSERT INTO refused_alerts (org_id, integration_id, refused, reason) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_id, integration_id)
DO UPDATE SET refused = refused_alerts.refused + excluded.refused, reason = excluded.reason
RETURNING refused, report_time IS NULL OR report_time <= app_now() - interval '1 hour' AS due
"""
_TOLD: Final = """
UPDATE refused_alerts SET refused = 0, report_time = app_now() WHERE org_id = $1 AND integration_id = $2
"""
_DUE: Final = take_from("refused_alerts")
_NOT_TOLD: Final = give_back_to("refused_alerts")


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
