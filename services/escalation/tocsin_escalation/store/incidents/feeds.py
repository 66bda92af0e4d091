"""Tenants whose incident events are sent to notify, because notify has subscriptions of theirs."""

from collections.abc import Sequence
from typing import Final

from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx

DAYS: Final = 7
"""A feed ends when it was not opened again for this many days."""


Told = tuple[str, str, str, bytes]
"""An event: the kind of its outbox row, tenant, ordering key, payload."""
_TELL: Final = outbox.insert_from(
    """SELECT e.org_id, e.ordering_key, e.kind, e.payload
  FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
    WITH ORDINALITY AS e(kind, org_id, ordering_key, payload, position)
  WHERE EXISTS (SELECT FROM event_feeds f WHERE f.org_id = e.org_id)
  ORDER BY position"""
)


async def tell(tx: Tx, events: Sequence[Told]) -> None:
    """Put the events of tenants that have a feed into the outbox; those of other tenants are dropped. A tenant without one has
    none of them."""
    if events:
        await tx.execute(_TELL, *map(list, zip(*events, strict=True)))


async def open_feeds(tx: Tx, org_ids: Sequence[str]) -> None:
    """From the commit on, events of these tenants are written. Ordered, so that two calls at once cannot deadlock."""
    await tx.execute(
        """INSERT INTO event_feeds (org_id) SELECT DISTINCT org_id FROM unnest($1::text[]) AS given (org_id) ORDER BY org_id
           ON CONFLICT (org_id) DO UPDATE SET update_time = app_now()""",
        list(org_ids),
    )


async def end_old(tx: Tx, limit: int) -> int:
    """End feeds that were not opened again for `DAYS`; returns how many, at most `limit`."""
    done = await tx.execute(
        f"""DELETE FROM event_feeds WHERE org_id IN (
              SELECT org_id FROM event_feeds WHERE update_time < app_now() - make_interval(days => {DAYS})
              ORDER BY update_time LIMIT $1 FOR UPDATE SKIP LOCKED)""",
        limit,
    )
    return int(done.rpartition(" ")[2])
