"""Repeats to escalation which tenants want events: escalation's own record may have expired, or be older after a
restore."""

from typing import Final

from tocsin_kit.db.pool import Database

from tocsin_notify.app.events.subscriptions import OpenFeeds
from tocsin_notify.store.events import subscriptions

_BATCH: Final = 1000


class EventFeeds:
    """One round opens the feeds of all tenants that have a subscription, also a stopped one, whose lost events are
    counted."""

    def __init__(self, db: Database, open_feeds: OpenFeeds) -> None:
        self._db = db
        self._open_feeds = open_feeds

    async def __call__(self) -> None:
        """Raises DATABASE_UNAVAILABLE, SERVICE_UNAVAILABLE: the next round tries again."""
        after = ""
        while True:
            async with self._db.system() as tx:
                found = await subscriptions.tenants(tx, after, _BATCH)
            if found:
                await self._open_feeds(found)
            if len(found) < _BATCH:
                return
            after = found[-1]
