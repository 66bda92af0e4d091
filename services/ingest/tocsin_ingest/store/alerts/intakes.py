"""Since when alerts could be taken: by the service at all, and by the limits of each integration.

One row is the service's: replicas that serve renew it. The others tell when a limit last refused an alert or a heartbeat.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from tocsin_kit.db.pool import Tx


def able_since(service: str) -> str:
    """SQL: since when alerts of the row `integrations` could be taken. `service`: the parameter with what `since` told."""
    return f"""greatest({service}::timestamptz, (SELECT max(intakes.since) FROM intakes
      WHERE intakes.org_id = integrations.org_id AND intakes.integration_id IN ('', integrations.integration_id)))"""


_SINCE: Final = """
SELECT since FROM intakes WHERE org_id = '*' AND integration_id = '' AND renew_time >= app_now() - $1::interval
"""
# The time that is written does not go back when an earlier transaction comes later, but where the clock itself has gone back. So
# a row that is older than what this replica has written came out of a backup: nothing is known of the time since then.
_RENEW: Final = """
INSERT INTO intakes (org_id, integration_id, since, renew_time) VALUES ('*', '', app_now(), app_now())
ON CONFLICT (org_id, integration_id) DO UPDATE SET
  renew_time = CASE WHEN intakes.renew_time > excluded.renew_time + $2::interval THEN excluded.renew_time
    ELSE greatest(intakes.renew_time, excluded.renew_time) END,
  since = CASE WHEN $1 AND intakes.renew_time < app_now() - $2::interval OR intakes.renew_time < $3::timestamptz
    THEN excluded.since ELSE intakes.since END
WHERE intakes.org_id = '*'
RETURNING renew_time
"""
_REFUSE: Final = """
INSERT INTO intakes (org_id, integration_id, since, renew_time)
SELECT org_id, integration_id, app_now(), app_now() FROM unnest($1::text[], $2::text[]) AS u(org_id, integration_id)
ORDER BY org_id, integration_id
ON CONFLICT (org_id, integration_id) DO UPDATE SET since = excluded.since, renew_time = excluded.renew_time
WHERE intakes.org_id = excluded.org_id
"""


async def since(tx: Tx, gap: timedelta) -> datetime | None:
    """Since when some replica could take alerts all the time; None: for longer than `gap` none has said that it could."""
    found: datetime | None = await tx.fetchval(_SINCE, gap)
    return found


async def renew(tx: Tx, gap: timedelta, *, paused: bool, last: datetime | None) -> datetime:
    """Alerts can be taken now; the time that was written.

    `paused`: this replica has not said so for longer than `gap`. If no other has either, the time counts anew. `last`: the
    time that this replica wrote last.
    """
    written: datetime = await tx.fetchval(_RENEW, paused, gap, last)
    return written


async def refuse(tx: Tx, refused: Collection[tuple[str, str]]) -> None:
    """Limits have just refused alerts or heartbeats of these integrations (tenant, id)."""
    rows = sorted(refused)  # two replicas touch rows in one order
    await tx.execute(_REFUSE, [org_id for org_id, _ in rows], [integration_id for _, integration_id in rows])
