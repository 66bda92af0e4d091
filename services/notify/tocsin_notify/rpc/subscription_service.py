"""SubscriptionService: decode, call one use case, encode."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1 import subscription_service_pb2 as pb
from tocsin.notify.v1 import subscription_service_pb2_grpc as pb_grpc
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import current_call, note_before, tenant
from tocsin_kit.rpc.listing import FEW_ROWS, Position, listed
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.validation import validate

from tocsin_notify.app.delivery.slots import NOTIFICATIONS
from tocsin_notify.app.events.event_sender import EventSender
from tocsin_notify.app.events.subscriptions import OpenFeeds, Subscriptions, find, find_delivery
from tocsin_notify.rpc import mapping
from tocsin_notify.rpc import subscription_mapping as encode
from tocsin_notify.store.events import event_deliveries, subscriptions
from tocsin_notify.store.events.event_deliveries import Attempt, EventDelivery
from tocsin_notify.store.events.subscriptions import Chosen, Subscription

WRITABLE: Final = ("display_name", "url", "event_types", "policies", "least_severity", "disabled")
_COLLECTION: Final = "subscriptions"
_DELIVERIES: Final = "deliveries"
_KEEP_FORMER: Final = 86_400.0
_NEWEST: Final = (mapping.LAST[0], (1 << 31) - 1, mapping.LAST[1])


class SubscriptionService(pb_grpc.SubscriptionServiceServicer):
    """Systems that are told of incidents."""

    def __init__(
        self,
        db: Database,
        use: Subscriptions,
        sender: EventSender,
        pages: PageTokens,
        budgets: Budgets,
        open_feeds: OpenFeeds,
    ) -> None:
        self._db = db
        self._once = ApplyOnce(db)
        self._use = use
        self._sender = sender
        self._pages = pages
        self._budgets = budgets
        self._open_feeds = open_feeds

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, context: Any
    ) -> pb.CreateSubscriptionResponse:
        """See the contract. Escalation is told first, so that no event after the answer is missed."""
        await self._open_feeds([tenant()])
        creator = current_call().subject
        secret = ""

        async def create(tx: Tx) -> pb.CreateSubscriptionResponse:
            nonlocal secret
            made, secret = await self._use.create(tx, encode.chosen_from(request.subscription), creator)
            return pb.CreateSubscriptionResponse(subscription=await _shown(tx, made))

        response = await self._once("CreateSubscription", request, pb.CreateSubscriptionResponse, create)
        response.secret = secret
        return response

    async def GetSubscription(self, request: pb.GetSubscriptionRequest, context: Any) -> pb.GetSubscriptionResponse:
        """See the contract."""
        async with self._db.transaction(tenant()) as tx:
            found = await find(tx, parse_uuid_name(request.name, _COLLECTION))
            return pb.GetSubscriptionResponse(subscription=await _shown(tx, found))

    async def ListSubscriptions(
        self, request: pb.ListSubscriptionsRequest, context: Any
    ) -> pb.ListSubscriptionsResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[tuple[Subscription, datetime]]:
            async with self._db.transaction(tenant()) as tx:
                rows = await subscriptions.page(tx, after, limit)
                now = await tx.now()
            return [(row, now) for row in rows]

        found, token = await listed(
            self._pages,
            request,
            mapping.FIRST,
            read,
            lambda told: encode.subscription_to(*told),
            lambda told: mapping.place(told[0]),
        )
        return pb.ListSubscriptionsResponse(subscriptions=found, next_page_token=token)

    async def UpdateSubscription(
        self, request: pb.UpdateSubscriptionRequest, context: Any
    ) -> pb.UpdateSubscriptionResponse:
        """See the contract."""
        given = request.subscription
        id = parse_uuid_name(given.name, _COLLECTION, field="subscription.name")

        async def update(tx: Tx) -> pb.UpdateSubscriptionResponse:
            now = await tx.now()

            def change(before: Subscription) -> Chosen:
                merged = encode.subscription_to(before, now)
                apply_update_mask(merged, given, request.update_mask, writable=WRITABLE)
                validate(merged, "subscription")
                return encode.chosen_from(merged)

            row = await self._use.update(tx, id, given.etag, change)
            return pb.UpdateSubscriptionResponse(subscription=await _shown(tx, row))

        return await self._once("UpdateSubscription", request, pb.UpdateSubscriptionResponse, update)

    async def DeleteSubscription(
        self, request: pb.DeleteSubscriptionRequest, context: Any
    ) -> pb.DeleteSubscriptionResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _COLLECTION)

        async def delete(tx: Tx) -> pb.DeleteSubscriptionResponse:
            note_before(await _shown(tx, await self._use.delete(tx, id, request.etag)))
            return pb.DeleteSubscriptionResponse()

        return await self._once("DeleteSubscription", request, pb.DeleteSubscriptionResponse, delete)

    async def EnableSubscription(
        self, request: pb.EnableSubscriptionRequest, context: Any
    ) -> pb.EnableSubscriptionResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _COLLECTION)

        async def enable(tx: Tx) -> pb.EnableSubscriptionResponse:
            return pb.EnableSubscriptionResponse(subscription=await _shown(tx, await self._use.enable(tx, id)))

        return await self._once("EnableSubscription", request, pb.EnableSubscriptionResponse, enable)

    async def TestSubscription(self, request: pb.TestSubscriptionRequest, context: Any) -> pb.TestSubscriptionResponse:
        """See the contract. The stored answer for repeats is the state before the request; a repeat reads the present
        state."""
        id = parse_uuid_name(request.name, _COLLECTION)
        org_id = tenant()
        made: tuple[Subscription, EventDelivery] | None = None

        async def ping(tx: Tx) -> pb.TestSubscriptionResponse:
            nonlocal made
            self._budgets.take(org_id, NOTIFICATIONS)
            if not self._sender.has_room(org_id):
                raise TocsinError(
                    ErrorReason.ERROR_REASON_RATE_LIMITED,
                    "as many requests to endpoints of the tenant are under way as may be",
                    retry_after=1.0,
                )
            made = await self._use.ping(tx, id, self._sender.lease)
            return pb.TestSubscriptionResponse(delivery=encode.delivery_to(made[1], ()))

        response = await self._once("TestSubscription", request, pb.TestSubscriptionResponse, ping)
        if made is not None:
            subscription, delivery = made
            try:
                async with asyncio.timeout(self._sender.lease):
                    await self._sender.send_now(subscription, delivery)
            except TimeoutError:
                pass
        async with self._db.transaction(org_id) as tx:
            kept = await event_deliveries.read(tx, parse_uuid_name(response.delivery.name, _DELIVERIES))
            if kept is not None:
                response.delivery.CopyFrom(await _delivery(tx, kept))
        return response

    async def RotateSecret(self, request: pb.RotateSecretRequest, context: Any) -> pb.RotateSecretResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _COLLECTION)
        keep = request.keep_former_for.ToTimedelta().total_seconds() if request.HasField("keep_former_for") else None
        secret = ""

        async def rotate(tx: Tx) -> pb.RotateSecretResponse:
            nonlocal secret
            row, secret = await self._use.rotate(tx, id, _KEEP_FORMER if keep is None else keep)
            return pb.RotateSecretResponse(subscription=await _shown(tx, row))

        response = await self._once("RotateSecret", request, pb.RotateSecretResponse, rotate)
        response.secret = secret
        return response

    async def GetDelivery(self, request: pb.GetDeliveryRequest, context: Any) -> pb.GetDeliveryResponse:
        """See the contract."""
        async with self._db.transaction(tenant()) as tx:
            found = await find_delivery(tx, parse_uuid_name(request.name, _DELIVERIES))
            return pb.GetDeliveryResponse(delivery=await _delivery(tx, found))

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Any) -> pb.ListDeliveriesResponse:
        """See the contract."""
        id = parse_uuid_name(request.subscription, _COLLECTION, field="subscription")

        async def read(before: Any, limit: int) -> Sequence[tuple[EventDelivery, Sequence[Attempt]]]:
            async with self._db.transaction(tenant()) as tx:
                await find(tx, id)
                rows = await event_deliveries.page(tx, id, encode.states_from(request.state), before, limit)
                attempts = await event_deliveries.attempts_of(tx, [row.id for row in rows])
            return [(row, attempts[row.id]) for row in rows]

        def place(told: tuple[EventDelivery, Sequence[Attempt]]) -> Position:
            return told[0].create_time, told[0].sequence, told[0].id

        deliveries, token = await listed(
            self._pages, request, _NEWEST, read, lambda told: encode.delivery_to(*told), place, portion=FEW_ROWS
        )
        return pb.ListDeliveriesResponse(deliveries=deliveries, next_page_token=token)

    async def RedeliverDelivery(
        self, request: pb.RedeliverDeliveryRequest, context: Any
    ) -> pb.RedeliverDeliveryResponse:
        """See the contract."""
        id = parse_uuid_name(request.name, _DELIVERIES)

        async def again(tx: Tx) -> pb.RedeliverDeliveryResponse:
            return pb.RedeliverDeliveryResponse(delivery=await _delivery(tx, await self._use.redeliver(tx, id)))

        return await self._once("RedeliverDelivery", request, pb.RedeliverDeliveryResponse, again)


async def _shown(tx: Tx, row: Subscription) -> pb.Subscription:
    return encode.subscription_to(row, await tx.now())


async def _delivery(tx: Tx, row: EventDelivery) -> pb.EventDelivery:
    return encode.delivery_to(row, (await event_deliveries.attempts_of(tx, [row.id]))[row.id])
