"""Deletes old rows, a few at a time."""

from datetime import timedelta
from typing import Final

from tocsin_kit.db.pool import Tx

# Each reads an index that contains only deletable rows, oldest first, so that it costs the same however long the history is.
# Closed alerts and incidents are in partitions that are dropped as a whole.
STATEMENTS: Final = (
    """DELETE FROM alerts WHERE state = 'suppressed' AND id IN (
      SELECT id FROM alerts WHERE state = 'suppressed' AND create_time < app_now() - $1::interval
        AND last_receive_time < app_now() - $1::interval
        AND NOT EXISTS (SELECT FROM alert_holds WHERE alert_id = alerts.id AND alert_holds.org_id = alerts.org_id)
        AND NOT EXISTS (SELECT FROM alert_pauses WHERE alert_id = alerts.id AND alert_pauses.org_id = alerts.org_id)
      ORDER BY create_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM group_triggers WHERE (group_key, time) IN (
      SELECT group_key, time FROM group_triggers WHERE end_time < app_now() - least($1::interval, interval '1 minute')
      ORDER BY end_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM ended_firings WHERE key IN (
      SELECT key FROM ended_firings WHERE end_time < app_now() - least($1::interval, interval '1 hour')
      ORDER BY end_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM refused_alerts WHERE (org_id, integration_id) IN (
      SELECT org_id, integration_id FROM refused_alerts WHERE report_time < app_now() - $1::interval
      ORDER BY report_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM intakes WHERE (org_id, integration_id) IN (
      SELECT org_id, integration_id FROM intakes
      WHERE org_id <> '*' AND since < app_now() - greatest($1::interval, interval '32 days')
      ORDER BY since LIMIT $2 FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM mail_threads WHERE (org_id, integration_id, message_hash) IN (
      SELECT org_id, integration_id, message_hash FROM mail_threads
      WHERE create_time < app_now() - least($1::interval, interval '30 days')
      ORDER BY create_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM silences WHERE (org_id, id) IN (
      SELECT org_id, id FROM silences WHERE end_time < app_now() - least($1::interval, interval '30 days')
      ORDER BY end_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
)

PARTITIONED: Final = ("parts.alerts_resolved", "parts.incidents_resolved")
"""By `resolve_time`. Alerts first: until they go, they tell of their incident."""


async def delete_old(tx: Tx, limit: int, *, statement: str, kept: timedelta) -> int:
    """Runs one of `STATEMENTS` for all tenants; how many rows it deleted, at most `limit`."""
    return int((await tx.execute(statement, kept, limit)).removeprefix("DELETE "))
