"""What subscriptions to incident events consist of, connected. A part of `wiring`."""

import asyncio
from typing import Final

from tocsin_kit.loops import Sweep

from tocsin_notify.app.events.event_feeds import EventFeeds
from tocsin_notify.app.events.event_sender import EventSender
from tocsin_notify.app.events.publish_events import PublishEvents, limits
from tocsin_notify.app.events.subscriptions import Subscriptions
from tocsin_notify.channels.standard_webhooks import StandardWebhooks
from tocsin_notify.domain.subscription import EventRetryPolicy
from tocsin_notify.rpc.subscription_service import SubscriptionService
from tocsin_notify.wiring.base import Base


class Events:
    """The parts of event subscriptions. One object per process."""

    def __init__(self, base: Base) -> None:
        settings = base.settings
        self._base = base
        self._due = asyncio.Event()
        self._endpoints = StandardWebhooks(
            timeout=settings.attempt_timeout_seconds, allow_private=settings.allow_private_webhooks
        )
        for limit in limits(settings.tenant_subscriptions, settings.subscription_pending_events):
            base.budgets.add(limit)
        self.publish: Final = PublishEvents(base.db, base.budgets, base.metrics, self._due.set)
        self.sender: Final = EventSender(
            base.db,
            self._endpoints,
            base.cipher,
            base.metrics,
            EventRetryPolicy(
                settings.event_backoff_base_seconds,
                settings.event_backoff_cap_seconds,
                settings.event_retry_window_seconds,
                settings.event_stop_after_seconds,
            ),
            concurrency=settings.subscription_concurrency,
            timeout=settings.attempt_timeout_seconds,
            nudge=self._due.set,
            notified=base.wakes.message.set,
        )

    def serve(self) -> None:
        """Add the service, what sends, and what keeps escalation told."""
        base, open_feeds = self._base, self._base.escalation.open_feeds
        use = Subscriptions(
            base.cipher, base.budgets, self._due.set, allow_private=base.settings.allow_private_webhooks
        )
        service = SubscriptionService(base.db, use, self.sender, base.page_tokens, base.budgets, open_feeds)
        base.runtime.rpc.add(service)
        base.runtime.loops.add("events", base.looks.sweep("events", self.sender.everything, nudged=self._due))
        base.runtime.loops.add("event-feeds", Sweep(300.0, EventFeeds(base.db, open_feeds)))

    async def drain(self) -> None:
        """Wait for the deliveries that are under way."""
        await self.sender.drain(self._base.settings.shutdown_grace_seconds * 0.5)

    async def close(self) -> None:
        """Drop connections."""
        await self._endpoints.close()
