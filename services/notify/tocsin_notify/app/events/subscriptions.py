"""Subscriptions: created, changed, enabled, tested; their deliveries read and sent again."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1 import incident_event_pb2 as event_pb
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.masks import require_etag

from tocsin_notify.app.events.event_types import PING
from tocsin_notify.app.events.publish_events import SUBSCRIPTIONS
from tocsin_notify.channels.standard_webhooks import new_secret, shown
from tocsin_notify.channels.urls import BadUrl, read_url
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.events import event_deliveries as deliveries
from tocsin_notify.store.events import subscriptions as store
from tocsin_notify.store.events.event_deliveries import EventDelivery
from tocsin_notify.store.events.subscriptions import Chosen, Subscription

_RETRY_AFTER: Final = 60.0
OpenFeeds = Callable[[list[str]], Awaitable[None]]
"""Tells escalation that events of these tenants are wanted. Raises SERVICE_UNAVAILABLE."""


class Subscriptions:
    """Use cases on subscriptions; each runs in the caller's transaction."""

    def __init__(self, cipher: Cipher, budgets: Budgets, nudge: Callable[[], None], *, allow_private: bool) -> None:
        """`nudge`: tells the sender that something is due."""
        self._cipher = cipher
        self._budgets = budgets
        self._nudge = nudge
        self._allow_private = allow_private

    async def create(self, tx: Tx, chosen: Chosen, creator: str) -> tuple[Subscription, str]:
        """A new one and its secret. Escalation hands the tenant's events over already. Raises INVALID_FIELD, LIMIT_REACHED."""
        chosen = self._checked(chosen)
        await self._require_room(tx)
        id, key = new_id(), new_secret()
        made = await store.insert(tx, id, self._cipher.close(tx.org_id, id, key), creator, chosen)
        return made, shown(key)

    async def update(self, tx: Tx, id: UUID, etag: str, change: Callable[[Subscription], Chosen]) -> Subscription:
        """The subscription after `change`. Raises SUBSCRIPTION_NOT_FOUND, ETAG_MISMATCH, INVALID_FIELD."""
        before = await find(tx, id, lock=True)
        require_etag(etag, before.version)
        after = await store.update(tx, id, self._checked(change(before)))
        tx.after_commit(self._nudge)
        return after

    async def delete(self, tx: Tx, id: UUID, etag: str) -> Subscription:
        """Returns the subscription as it was. Raises SUBSCRIPTION_NOT_FOUND, ETAG_MISMATCH."""
        before = await find(tx, id, lock=True)
        require_etag(etag, before.version)
        await store.delete(tx, id)
        return before

    async def enable(self, tx: Tx, id: UUID) -> Subscription:
        """Let a stopped subscription send again. Raises SUBSCRIPTION_NOT_FOUND."""
        await find(tx, id, lock=True)
        tx.after_commit(self._nudge)
        return await store.enable(tx, id)

    async def rotate(self, tx: Tx, id: UUID, keep_seconds: float) -> tuple[Subscription, str]:
        """A new secret. Raises SUBSCRIPTION_NOT_FOUND."""
        await find(tx, id, lock=True)
        key = new_secret()
        return await store.rotate(tx, id, self._cipher.close(tx.org_id, id, key), keep_seconds), shown(key)

    async def ping(self, tx: Tx, id: UUID, lease: float) -> tuple[Subscription, EventDelivery]:
        """A ping, leased by the caller for `lease` seconds, who sends it. Raises SUBSCRIPTION_NOT_FOUND."""
        found = await find(tx, id, lock=True)
        event = event_pb.IncidentEvent(
            org_id=tx.org_id, type=event_pb.EVENT_TYPE_PING, message="a test of this subscription"
        )
        event.time.FromDatetime(await tx.now())
        made = await deliveries.insert_ping(tx, new_id(), id, PING, event.SerializeToString(), lease)
        await store.fare(tx, id, found.standing, 1)
        return found, made

    async def redeliver(self, tx: Tx, id: UUID) -> EventDelivery:
        """Send it again, now. One that is being sent at this moment stays as it is. Raises DELIVERY_NOT_FOUND."""
        seen = await find_delivery(tx, id)
        found = await find(tx, seen.subscription, lock=True)
        before = await find_delivery(tx, id, lock=True)
        again = await deliveries.send_again(tx, id)
        if again is None:
            return before
        standing = replace(found.standing, resume_time=None)
        await store.fare(tx, found.id, standing, 1 if before.end_time is not None else 0)
        tx.after_commit(self._nudge)
        return again

    def _checked(self, chosen: Chosen) -> Chosen:
        """With the URL as it is called."""
        if "\0" in chosen.display_name:
            raise invalid("subscription.display_name", "must not hold a NUL character")
        try:
            return replace(chosen, url=str(read_url(chosen.url, allow_private=self._allow_private)))
        except BadUrl as error:
            raise invalid("subscription.url", str(error)) from error

    async def _require_room(self, tx: Tx) -> None:
        most = self._budgets.allowed(tx.org_id, SUBSCRIPTIONS)
        if await store.count_all(tx, most) < most:
            return
        self._budgets.note_refusal(tx.org_id, SUBSCRIPTIONS)
        raise TocsinError(
            ErrorReason.ERROR_REASON_LIMIT_REACHED,
            f"the tenant has {most} subscriptions, and may have no more; delete some, or ask the operator for a higher limit",
            metadata={"limit": SUBSCRIPTIONS, "allowed": str(most)},
            retry_after=_RETRY_AFTER,
        )


async def find(tx: Tx, id: UUID, *, lock: bool = False) -> Subscription:
    """One of the tenant. Raises SUBSCRIPTION_NOT_FOUND."""
    found = await store.read(tx, id, lock=lock)
    if found is None:
        raise not_found(ErrorReason.ERROR_REASON_SUBSCRIPTION_NOT_FOUND, f"subscriptions/{id}")
    return found


async def find_delivery(tx: Tx, id: UUID, *, lock: bool = False) -> EventDelivery:
    """One of the tenant. Raises DELIVERY_NOT_FOUND."""
    found = await deliveries.read(tx, id, lock=lock)
    if found is None:
        raise not_found(ErrorReason.ERROR_REASON_DELIVERY_NOT_FOUND, f"deliveries/{id}")
    return found
