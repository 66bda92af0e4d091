"""How long what is over is kept: each kind as long as its setting says."""

from datetime import timedelta

from tocsin.notify.v1 import subscription_service_pb2 as pb
from tocsin_kit.ids import new_id
from tocsin_kit.loops import Sweep

from tests.store.notify.support import World, job, new_org
from tests.store.notify.test_subscriptions import Endpoint


async def test_each_kind_is_kept_for_the_days_of_its_setting(world: World) -> None:
    days = {"retention_days": 1, "fence_retention_days": 2, "event_retention_days": 3}
    async with world.replica(works=False, **days) as notify:
        org, incident = new_org(), new_id()
        await world.method(org, webhook="ana")
        await notify.submit(job(org, incident))
        await notify.cancel(org, incident)
        endpoint = await Endpoint(world, notify, org).subscribe()
        await endpoint.call("TestSubscription", pb.TestSubscriptionRequest(name=endpoint.name))
        [retention] = [each.run for each in notify.runtime.loops._loops if each.name == "retention"]
        assert isinstance(retention, Sweep)
        kept = []
        for age in (0.5, 1.5, 2.5, 3.5):
            await world.forward(timedelta(days=age))
            await retention._work()
            tables = ("pages", "cancel_fences", "event_deliveries")
            kept.append([await world.admin.fetchval(f"SELECT count(*) FROM {table}") for table in tables])
    assert kept == [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]
