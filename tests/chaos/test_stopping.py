"""SIGTERM: finish or give back, exit 0. Whoever uses Tocsin notices nothing."""

import asyncio
import signal

import pytest
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet
from tests.chaos.load import Load

pytestmark = pytest.mark.chaos


async def test_all_replicas_are_restarted_in_turn_under_load(fleet: Fleet, tenant: Tenant) -> None:
    """A rolling restart: first one replica of each service, then the other."""
    load = await Load.prepare(tenant)
    async with load.under_way() as dice:
        first = [dice.choice(fleet.replicas(service)) for service in fleet.stack.services]
        for some in (first, [replica for replica in fleet.replicas() if replica not in first]):
            codes = await asyncio.gather(*(replica.stop() for replica in some))
            assert codes == [0, 0, 0], [replica.process.output.tail() for replica in some]
            await asyncio.gather(*(replica.start() for replica in some))
    await load.outcome("rolling restart")


async def test_notify_is_stopped_while_it_takes_a_page(fleet: Fleet, tenant: Tenant) -> None:
    """Its call begins when the others have ended already: it is waited for as well, and written down."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    provider = fleet.holds_back(ana.addresses[0])
    condition = f"NEW.org_id = '{tenant.org_id}'"
    async with fleet.breakpoint("notify", "notifications", "INSERT", condition) as point:
        incident = await prom.triggers("db down")
        stopping = await point.reached()
        stopping.process.send_signal(signal.SIGTERM)
        await fleet.not_serving(stopping)
        await point.let_go()
        await provider.reached()
        await fleet.for_a_while(0.3)  # the provider takes its time
    provider.answers()
    assert await stopping.process.wait(timeout=20) == 0
    await ana.is_paged(incident)
    await fleet.orphans_come_due()
    await fleet.quiet()
