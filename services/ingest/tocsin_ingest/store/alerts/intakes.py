"""Since when alerts could be accepted: by the service at all, and by the limits of each integration.

One row is the service's: replicas that serve renew it. The others hold when a limit last refused an alert or a heartbeat, and the
number of refused alerts that were not reported.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from tocsin_kit.db.pool import Tx

from tocsin_ingest.store.alerts.untold import Untold, give_back_to, take_from


def able_since(service: str) -> str:
    """SQL: since when alerts of the row `integrations` could be taken. `service`: the parameter with what `since` told."""
    return f"""greatest({service}::timestamptz, (SELECT max(intakes.since) FROM intakes
      WHERE intakes.org_id = integrations.org_id AND intakes.integration_id IN ('', integrations.integration_id)))"""


_SINCE: Final = """
SELECT since FROM intakes WHERE org_id = '*' AND integration_id = '' AND renew_time >= app_now() - $1::interval
"""
# The stored time does not go back when an earlier transaction comes later, except where the clock itself has gone back. So a row
# that is older than the one this replica has written came from a backup: nothing is known of the time since then.
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
# A minute after the first one: then their number is known. Refusals within an hour after a report are reported at its end.
_REFUSE: Final = """
INSERT INTO intakes (org_id, integration_id, since, renew_time, refused, reason, report_time)
SELECT org_id, integration_id, app_now(), app_now(), refused, reason, app_now() - interval '59 minutes'
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS u(org_id, integration_id, refused, reason)
ORDER BY org_id, integration_id
ON CONFLICT (org_id, integration_id) DO UPDATE SET since = excluded.since, renew_time = excluded.renew_time,
  refused = intakes.refused + excluded.refused, reason = excluded.reason,
  report_time = CASE WHEN intakes.refused = 0 THEN greatest(intakes.report_time, excluded.report_time) ELSE intakes.report_time END
WHERE intakes.org_id = excluded.org_id
"""
_UNTOLD: Final = take_from("intakes")
_NOT_TOLD: Final = give_back_to("intakes")


async def since(tx: Tx, gap: timedelta) -> datetime | None:
    """The time since which some replica could always accept alerts; None: for longer than `gap` no replica could."""
    found: datetime | None = await tx.fetchval(_SINCE, gap)
    return found


async def renew(tx: Tx, gap: timedelta, *, paused: bool, last: datetime | None) -> datetime:
    """Alerts can be taken now; the time that was written.

    `paused`: this replica has not said so for longer than `gap`. If no other replica has either, the time starts again. `last`:
    the time that this replica wrote last.
    """
    written: datetime = await tx.fetchval(_RENEW, paused, gap, last)
    return written


async def refuse(tx: Tx, refused: Mapping[tuple[str, str], tuple[int, str]]) -> None:
    """Limits have just refused alerts or heartbeats of these integrations (tenant, id): how many alerts, and the last reason."""
    rows = sorted(refused.items())  # two replicas touch rows in one order
    await tx.execute(
        _REFUSE,
        [org_id for (org_id, _), _ in rows],
        [integration_id for (_, integration_id), _ in rows],
        [number for _, (number, _) in rows],
        [reason for _, (_, reason) in rows],
    )


async def untold(tx: Tx, limit: int) -> list[Untold]:
    """What limits refused since a report that is an hour old or older, of all tenants. It counts as reported from now on."""
    return [Untold(*row) for row in await tx.fetch(_UNTOLD, limit)]


async def not_told(tx: Tx, integration_id: str, number: int) -> None:
    """The report of these did not succeed: they are due again."""
    await tx.execute(_NOT_TOLD, tx.org_id, integration_id, number)
