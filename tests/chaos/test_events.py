"""Events of subscriptions: what a notify that dies had told comes again under the same id, and nothing is lost."""

import json

import pytest
from tocsin.notify.v1 import subscription_service_pb2 as pb
from tocsin_testkit.received import Received
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet, eventually

pytestmark = pytest.mark.chaos


async def test_notify_dies_between_an_endpoints_yes_and_its_note(fleet: Fleet, tenant: Tenant) -> None:
    path = f"events-of-{tenant.org_id}"
    wanted = pb.Subscription(url=fleet.hooks.url(path), display_name="board")
    await tenant.admin.subscriptions.CreateSubscription(pb.CreateSubscriptionRequest(subscription=wanted))
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))

    def told() -> list[Received]:
        return [message for message in fleet.inbox.messages if message.address == path]

    noted = f"NEW.org_id = '{tenant.org_id}' AND NEW.state = 'delivered'"
    async with fleet.breakpoint("notify", "event_deliveries", "UPDATE", noted) as point:
        incident = await prom.triggers("db down")
        (await point.reached()).kill()
        assert len(told()) == 1, "the endpoint has it, and nobody has noted so"
    await ana.is_paged(incident)
    await fleet.heal()
    await ana.acknowledges(incident)
    await ana.resolves(incident)
    await tenant.passes(seconds=30)  # whoever had the first one lost it

    async def resolved() -> bool:
        return "incident.resolved" in [message.kind for message in told()]

    await eventually(resolved, "the last event", patience=60)
    ids = [message.key for message in told()]
    assert ids[0] == ids[1], "the same event, known by its id"
    assert len(set(ids)) == len(ids) - 1, "and no other one twice"
    sequence = list(dict.fromkeys(json.loads(message.body)["data"]["sequence"] for message in told()))
    assert sequence == list(range(1, len(ids))), "none is missing, and they come in their order"
