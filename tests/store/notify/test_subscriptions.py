"""Subscriptions on real servers: signed, in order, again and again, and without holding up anybody else."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.notify.v1 import incident_event_pb2 as event_pb
from tocsin.notify.v1 import internal_service_pb2 as internal_pb
from tocsin.notify.v1 import subscription_service_pb2 as pb
from tocsin_kit.ids import new_id
from tocsin_testkit.received import Received

from tests.store.notify.support import Notify, World, bearer, internal, new_org, until

OPENED = event_pb.EVENT_TYPE_INCIDENT_OPENED
ACKNOWLEDGED = event_pb.EVENT_TYPE_INCIDENT_ACKNOWLEDGED
RESOLVED = event_pb.EVENT_TYPE_INCIDENT_RESOLVED
QUICK: dict[str, Any] = {"event_backoff_base_seconds": 0.02, "event_backoff_cap_seconds": 0.05}
_paths = itertools.count(1)


class Endpoint:
    """A subscription of a tenant at a path of its own."""

    def __init__(self, world: World, notify: Notify, org: str) -> None:
        self.world, self.notify, self.org = world, notify, org
        self.path = f"events-{next(_paths)}"
        self.who = bearer(org)

    async def subscribe(self, **chosen: Any) -> "Endpoint":
        wanted = pb.Subscription(url=self.world.hooks.url(self.path), **chosen)
        made = await self.call("CreateSubscription", pb.CreateSubscriptionRequest(subscription=wanted))
        self.name, self.etag, self.secret = made.subscription.name, made.subscription.etag, made.secret
        return self

    async def call(self, rpc: str, request: Any) -> Any:
        return await getattr(self.notify.subscriptions, rpc)(request, metadata=self.who)

    async def now(self) -> pb.Subscription:
        found: pb.Subscription = (
            await self.call("GetSubscription", pb.GetSubscriptionRequest(name=self.name))
        ).subscription
        return found

    async def deliveries(self, **filters: Any) -> list[pb.EventDelivery]:
        """Oldest first."""
        request = pb.ListDeliveriesRequest(subscription=self.name, **filters)
        return list(reversed((await self.call("ListDeliveries", request)).deliveries))

    def got(self) -> list[Received]:
        return [each for each in self.world.inbox.messages if each.address == self.path]

    def types(self) -> list[str]:
        return [each.kind for each in self.got()]


async def publish(
    notify: Notify, org: str, incident: uuid.UUID, *types: event_pb.EventType.ValueType
) -> Sequence[event_pb.IncidentEvent]:
    """Hand over events of one incident, as escalation does."""
    events = []
    for type_ in types:
        event = event_pb.IncidentEvent(
            id=str(new_id()), org_id=org, type=type_, actor="users/ana", message="it happened"
        )
        event.incident.name, event.incident.policy = f"incidents/{incident}", "policies/db"
        event.incident.severity, event.incident.title = 1, "Disk full"  # type: ignore[assignment]
        event.time.GetCurrentTime()
        events.append(event)
    await notify.internal.PublishIncidentEvents(
        internal_pb.PublishIncidentEventsRequest(events=events), metadata=internal()
    )
    return events


async def test_events_are_signed_numbered_logged_and_sent_again_under_their_id(world: World, notify: Notify) -> None:
    org, incident = new_org(), new_id()
    endpoint = await Endpoint(world, notify, org).subscribe(policies=["policies/db"])
    assert world.escalation.feeds >= {org}, "escalation was told before the subscription was there"
    events = await publish(notify, org, incident, OPENED, ACKNOWLEDGED, RESOLVED)
    await until(lambda: len(endpoint.got()) == 3)
    assert endpoint.types() == ["incident.opened", "incident.acknowledged", "incident.resolved"]
    first = endpoint.got()[0]
    assert [json.loads(each.body)["data"]["sequence"] for each in endpoint.got()] == [1, 2, 3]
    assert json.loads(first.body) == {
        "type": "incident.opened",
        "timestamp": events[0].time.ToJsonString(),
        "data": {
            "organization": org,
            "subscription": endpoint.name,
            "sequence": 1,
            "events_lost": 0,
            "incident": {
                "name": f"incidents/{incident}",
                "title": "Disk full",
                "source": "",
                "severity": "SEVERITY_CRITICAL",
                "state": "",
                "policy": "policies/db",
                "level": 0,
            },
            "actor": "users/ana",
            "message": "it happened",
        },
    }
    assert is_signed(first, endpoint.secret)
    request = internal_pb.PublishIncidentEventsRequest(events=events)
    again = await notify.internal.PublishIncidentEvents(request, metadata=internal())
    assert again.stored == 0, "escalation may hand an event over twice"
    await until(lambda: ended(endpoint, 3))
    log = await endpoint.deliveries()
    assert [(each.type, each.state, each.attempt_count) for each in log] == [
        (kind, pb.DELIVERY_STATE_DELIVERED, 1) for kind in (OPENED, ACKNOWLEDGED, RESOLVED)
    ]
    assert [(each.number, each.status, each.detail) for each in log[0].attempts] == [(1, 200, "taken")]
    await endpoint.call("RedeliverDelivery", pb.RedeliverDeliveryRequest(name=log[0].name))
    await until(lambda: len(endpoint.got()) == 4)
    assert endpoint.got()[3].key == first.key == log[0].name.removeprefix("deliveries/")
    assert endpoint.got()[3].body == first.body


async def test_a_secret_is_shown_once_rotated_and_changes_need_what_was_read(world: World, notify: Notify) -> None:
    org = new_org()
    endpoint = await Endpoint(world, notify, org).subscribe(display_name="board")
    rotated = await endpoint.call(
        "RotateSecret", pb.RotateSecretRequest(name=endpoint.name, keep_former_for=Duration(seconds=3600))
    )
    ping = (await endpoint.call("TestSubscription", pb.TestSubscriptionRequest(name=endpoint.name))).delivery
    assert (ping.state, ping.attempts[0].status, ping.type) == (
        pb.DELIVERY_STATE_DELIVERED,
        200,
        event_pb.EVENT_TYPE_PING,
    )
    [got] = endpoint.got()
    assert got.kind == "ping"
    assert is_signed(got, endpoint.secret)
    assert is_signed(got, rotated.secret)
    assert endpoint.secret != rotated.secret
    await world.forward(timedelta(hours=2))
    await endpoint.call("TestSubscription", pb.TestSubscriptionRequest(name=endpoint.name))
    assert not is_signed(endpoint.got()[1], endpoint.secret), "the time of the former secret is over"
    assert is_signed(endpoint.got()[1], rotated.secret)
    seen = await endpoint.now()
    shown = endpoint.secret.removeprefix("whsec_"), rotated.secret.removeprefix("whsec_")
    assert not any(secret in seen.SerializeToString().decode("latin-1") for secret in shown)
    change = pb.Subscription(name=endpoint.name, display_name="wall", etag=endpoint.etag)
    mask = FieldMask(paths=["display_name"])
    with pytest.raises(grpc.aio.AioRpcError) as stale:
        await endpoint.call("UpdateSubscription", pb.UpdateSubscriptionRequest(subscription=change, update_mask=mask))
    assert stale.value.code() is grpc.StatusCode.ABORTED
    change.etag = seen.etag
    changed = await endpoint.call(
        "UpdateSubscription", pb.UpdateSubscriptionRequest(subscription=change, update_mask=mask)
    )
    assert (changed.subscription.display_name, changed.subscription.url) == ("wall", seen.url)
    other = bearer(new_org())
    for rpc, request in (
        ("GetSubscription", pb.GetSubscriptionRequest(name=endpoint.name)),
        ("RotateSecret", pb.RotateSecretRequest(name=endpoint.name)),
        ("GetDelivery", pb.GetDeliveryRequest(name=ping.name)),
        ("RedeliverDelivery", pb.RedeliverDeliveryRequest(name=ping.name)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as hidden:
            await getattr(notify.subscriptions, rpc)(request, metadata=other)
        assert hidden.value.code() is grpc.StatusCode.NOT_FOUND
    await endpoint.call("DeleteSubscription", pb.DeleteSubscriptionRequest(name=endpoint.name))
    assert await world.admin.fetchval("SELECT count(*) FROM event_deliveries") == 0


async def test_an_event_waits_for_the_one_before_it_and_not_for_ever(world: World) -> None:
    async with world.replica(**QUICK) as notify:
        org, one, two = new_org(), new_id(), new_id()
        await Endpoint(world, notify, org).subscribe()
        seen = []

        async def answer(_: Any, message: Received) -> int:
            seen.append((message.incident, json.loads(message.body)["data"]["sequence"]))
            return 500 if seen[-1] == (f"incidents/{one}", 1) else 200

        world.hooks.on_request = answer
        await publish(notify, org, one, OPENED, RESOLVED)
        await publish(notify, org, two, OPENED)
        await until(lambda: (f"incidents/{one}", 2) in seen)
        assert seen[: seen.index((f"incidents/{one}", 2))].count((f"incidents/{one}", 1)) >= 5
        assert (f"incidents/{two}", 1) in seen, "what is not of this incident does not wait"


async def test_a_long_failure_stops_it_loudly_and_says_what_is_lost(world: World) -> None:
    async with world.replica(event_stop_after_seconds=0, **QUICK) as notify:
        org, incident = new_org(), new_id()
        await world.method(org, webhook="ana")
        endpoint = await Endpoint(world, notify, org).subscribe()
        world.hooks.will_answer(endpoint.path, [503] * 10)
        await publish(notify, org, incident, OPENED)

        async def stopped() -> bool:
            return (await endpoint.now()).state == pb.SUBSCRIPTION_STATE_STOPPED

        await until(stopped)
        [told] = await world.admin.fetch(
            "SELECT actor, resources, reason FROM audit_entries WHERE method = 'StopSubscription'"
        )
        assert tuple(told) == ("services/notify", [endpoint.name], "503 Service Unavailable")
        await until(lambda: world.arrived("ana") == 1)
        await publish(notify, org, incident, ACKNOWLEDGED)
        now = await endpoint.now()
        assert (now.pending_count, now.lost_event_count, now.HasField("last_loss_time")) == (1, 1, True)
        await endpoint.call("EnableSubscription", pb.EnableSubscriptionRequest(name=endpoint.name))
        await until(lambda: endpoint.types() == ["incident.opened"])
        assert json.loads(endpoint.got()[0].body)["data"]["events_lost"] == 1
        await until(lambda: ended(endpoint, 1))
        assert (await endpoint.now()).state == pb.SUBSCRIPTION_STATE_ACTIVE


async def test_an_endpoint_that_hangs_delays_no_other(world: World) -> None:
    # Longer than any machine takes for the rest: what hangs is not tried a second time meanwhile.
    async with world.replica(attempt_timeout_seconds=120, lease_seconds=130) as notify:
        org = new_org()
        hangs = await Endpoint(world, notify, org).subscribe()
        works = await Endpoint(world, notify, org).subscribe()
        other = await Endpoint(world, notify, new_org()).subscribe()
        world.hooks.hang[hangs.path] = asyncio.Event()
        for _ in range(20):
            await publish(notify, org, new_id(), OPENED)
        await publish(notify, other.org, new_id(), OPENED)
        await until(lambda: len(works.got()) == 20 and len(other.got()) == 1)
        await until(lambda: world.hooks.held[hangs.path] == 1)
        assert hangs.got() == []
        world.hooks.hang.pop(hangs.path).set()
        await until(lambda: len(hangs.got()) == 20)
        assert world.hooks.held[hangs.path] == 1, "until one is taken, one request at a time"


async def test_what_a_process_that_died_was_sending_is_sent_again_under_its_id(world: World) -> None:
    org, incident = new_org(), new_id()
    async with world.replica(works=False) as dead:
        endpoint = await Endpoint(world, dead, org).subscribe()
        await publish(dead, org, incident, OPENED, RESOLVED)
        await world.admin.execute(
            """UPDATE event_deliveries SET state = 'sending', attempts = 1, due_time = NULL,
                 lease_until = app_now() - interval '1 s' WHERE sequence = 1"""
        )
    async with world.replica() as alive:
        endpoint.notify = alive
        await until(lambda: endpoint.types() == ["incident.opened", "incident.resolved"])
        await until(lambda: ended(endpoint, 2))
        assert [each.attempt_count for each in await endpoint.deliveries()] == [2, 1]


async def test_no_more_wait_than_may_and_no_more_subscriptions_are_made_than_may_be(world: World) -> None:
    async with world.replica(works=False, subscription_pending_events=2, tenant_subscriptions=1) as notify:
        org = new_org()
        endpoint = await Endpoint(world, notify, org).subscribe()
        await publish(notify, org, new_id(), OPENED, ACKNOWLEDGED, RESOLVED)
        now = await endpoint.now()
        assert (now.pending_count, now.lost_event_count) == (2, 1)
        with pytest.raises(grpc.aio.AioRpcError) as full:
            await Endpoint(world, notify, org).subscribe()
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(("most", "share"), [(4, 1), (8, 2)])
async def test_a_tenant_has_a_quarter_of_the_requests_at_once_that_the_settings_allow(
    world: World, most: int, share: int
) -> None:
    # Longer than any machine takes for the rest.
    async with world.replica(
        works=False, subscription_concurrency=most, attempt_timeout_seconds=120, lease_seconds=130
    ) as notify:
        endpoint = await Endpoint(world, notify, new_org()).subscribe()
        world.hooks.hang[endpoint.path] = asyncio.Event()
        ping = pb.TestSubscriptionRequest(name=endpoint.name)
        held = [asyncio.create_task(endpoint.call("TestSubscription", ping)) for _ in range(share)]
        await until(lambda: world.hooks.held[endpoint.path] == share)
        with pytest.raises(grpc.aio.AioRpcError, match="as many requests to endpoints of the tenant"):
            await endpoint.call("TestSubscription", ping)
        world.hooks.hang.pop(endpoint.path).set()
        await asyncio.gather(*held)


@pytest.mark.parametrize(
    ("window", "state", "got"),
    [(0, pb.DELIVERY_STATE_FAILED, []), (3600, pb.DELIVERY_STATE_DELIVERED, ["incident.opened"])],
)
async def test_a_delivery_is_given_up_after_the_window_of_the_settings(
    world: World, window: float, state: pb.DeliveryState.ValueType, got: list[str]
) -> None:
    async with world.replica(event_retry_window_seconds=window, **QUICK) as notify:
        endpoint = await Endpoint(world, notify, new_org()).subscribe()
        world.hooks.will_answer(endpoint.path, [500])
        await publish(notify, endpoint.org, new_id(), OPENED)

        async def over() -> bool:
            return [each.state for each in await endpoint.deliveries()] == [state]

        await until(over)
        assert endpoint.types() == got


async def ended(endpoint: Endpoint, count: int) -> bool:
    """Whether so many deliveries are noted as delivered."""
    return len(await endpoint.deliveries(state=pb.DELIVERY_STATE_DELIVERED)) == count


def is_signed(message: Received, secret: str) -> bool:
    """Checks as a receiver does (standardwebhooks.com, "Verifying webhook authenticity")."""
    headers = {name.lower(): value for name, value in message.headers}
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + message.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return expected in headers["webhook-signature"].split(" ")
