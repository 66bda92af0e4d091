"""What subscriptions to incident events consist of, connected. A part of `wiring`."""

import asyncio
from collections.abc import Callable
from typing import Final

from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database
from tocsin_kit.loops import Loops, Sweep
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import RpcServer

from tocsin_notify.app.delivery.looks import Looks
from tocsin_notify.app.events.event_feeds import EventFeeds
from tocsin_notify.app.events.event_sender import EventSender
from tocsin_notify.app.events.publish_events import PublishEvents, limits
from tocsin_notify.app.events.subscriptions import OpenFeeds, Subscriptions
from tocsin_notify.channels.standard_webhooks import StandardWebhooks
from tocsin_notify.domain.subscription import EventRetryPolicy
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.rpc.subscription_service import SubscriptionService
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.cipher import Cipher


class Events:
    """The parts of event subscriptions. One object per process."""

    def __init__(
        self,
        db: Database,
        cipher: Cipher,
        budgets: Budgets,
        metrics: NotifyMetrics,
        settings: NotifySettings,
        open_feeds: OpenFeeds,
        notified: Callable[[], None],
    ) -> None:
        """`notified`: a message to a user is due."""
        self._db, self._cipher, self._budgets, self._settings = db, cipher, budgets, settings
        self._open_feeds = open_feeds
        self._due = asyncio.Event()
        self._endpoints = StandardWebhooks(
            timeout=settings.attempt_timeout, allow_private=settings.allow_private_webhooks
        )
        for limit in limits(settings.tenant_subscriptions, settings.subscription_pending_events):
            budgets.add(limit)
        self.publish: Final = PublishEvents(db, budgets, metrics, self._due.set)
        self.sender: Final = EventSender(
            db,
            self._endpoints,
            cipher,
            metrics,
            EventRetryPolicy(
                settings.event_backoff_base,
                settings.event_backoff_cap,
                settings.event_retry_window,
                settings.event_stop_after,
            ),
            concurrency=settings.subscription_concurrency,
            timeout=settings.attempt_timeout,
            nudge=self._due.set,
            notified=notified,
        )

    def serve(self, rpc: RpcServer, pages: PageTokens) -> None:
        """Add the service."""
        use = Subscriptions(
            self._cipher, self._budgets, self._due.set, allow_private=self._settings.allow_private_webhooks
        )
        rpc.add(SubscriptionService(self._db, use, self.sender, pages, self._budgets, self._open_feeds))

    def add_loops(self, loops: Loops, looks: Looks) -> None:
        """Add what sends, and what keeps escalation told."""
        loops.add("events", looks.sweep("events", self.sender.everything, nudged=self._due))
        loops.add("event-feeds", Sweep(300.0, EventFeeds(self._db, self._open_feeds)))

    async def close(self) -> None:
        """Drop connections."""
        await self._endpoints.close()
