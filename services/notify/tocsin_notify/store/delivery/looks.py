"""Which kinds of rows are due, in one statement: otherwise each loop would send a query every second."""

from dataclasses import dataclass
from typing import Final

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.store.delivery.notifications import EARLY
from tocsin_notify.store.tables import IS_RECEIPTED


@dataclass(frozen=True, slots=True)
class Due:
    """Which kinds may have due rows. False: none are due. True: the claim of that kind decides."""

    messages: bool
    bundles: bool
    recurring_messages: bool
    receipts: bool
    sequels: bool
    digests: bool
    slack_groups: bool
    events: bool


# Each part reads the first row of an index that holds only waiting rows.
_LOOK: Final = f"""
SELECT {columns(Due)} FROM (SELECT
  EXISTS (SELECT FROM messages WHERE state = 'scheduled' AND send_time <= app_now() + make_interval(secs => {EARLY})) AS messages,
  EXISTS (SELECT FROM paces WHERE bundle IS NOT NULL AND bundle_due <= app_now())
    OR EXISTS (SELECT FROM quiet_bundles WHERE due_time <= app_now()) AS bundles,
  EXISTS (SELECT FROM recurring_messages WHERE state = 'active' AND next_time <= app_now()) AS recurring_messages,
  EXISTS (SELECT FROM notifications
          WHERE state = 'sent' AND {IS_RECEIPTED} AND NOT receipt_settled AND send_time <= app_now()) AS receipts,
  EXISTS (SELECT FROM cancel_fences WHERE NOT followed) AS sequels,
  EXISTS (SELECT FROM digests WHERE next_time <= app_now()) AS digests,
  EXISTS (SELECT FROM slack_groups WHERE look_time <= app_now()) AS slack_groups,
  EXISTS (SELECT FROM subscriptions WHERE due_time <= app_now() AND NOT disabled AND stop_time IS NULL) AS events
) AS look
"""


async def look(tx: Tx) -> Due:
    """The kinds that may have due rows now, of all tenants."""
    (row,) = await tx.fetch(_LOOK)
    return Due(*row)
