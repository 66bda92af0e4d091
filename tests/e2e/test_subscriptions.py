"""Incident events through the running services, to a system of the tenant."""

import json

from google.protobuf.json_format import Parse
from tocsin.escalation.v1 import incident_service_pb2
from tocsin.notify.v1 import subscription_service_pb2 as pb
from tocsin.notify.v1.incident_event_pb2 import EventPayload
from tocsin_testkit.received import Received
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World


async def test_a_system_is_told_of_its_tenants_incidents_in_order(tenant: Tenant, world: World) -> None:
    path = f"system-of-{tenant.org_id}"
    wanted = pb.Subscription(url=world.hooks.url(path), display_name="board")
    made = await tenant.admin.subscriptions.CreateSubscription(pb.CreateSubscriptionRequest(subscription=wanted))
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=10))
    incident = await prom.triggers("disk full")
    await ana.is_paged(incident)
    await ana.acknowledges(incident)
    note = incident_service_pb2.AddNoteRequest(name=incident, text="looking")
    await ana.own.incidents.AddNote(note)
    await ana.resolves(incident)

    def told() -> list[Received]:
        return [message for message in world.inbox.messages if message.address == path]

    last = await world.inbox.wait_for(lambda each: each.address == path and each.kind == "incident.resolved", "the end")
    assert [message.kind for message in told()] == [
        "incident.opened",
        "incident.level_reached",
        "incident.acknowledged",
        "incident.note_added",
        "incident.resolved",
    ]
    assert [json.loads(message.body)["data"]["sequence"] for message in told()] == [1, 2, 3, 4, 5]
    assert {message.incident for message in told()} == {incident}
    payload = Parse(last.body, EventPayload())
    assert (payload.data.subscription, payload.data.incident.state) == (made.subscription.name, "resolved")
    assert payload.data.organization == tenant.org_id
    noted = Parse(told()[3].body, EventPayload()).data
    assert (noted.actor, noted.message, noted.incident.state) == (ana.name, "looking", "acknowledged")
