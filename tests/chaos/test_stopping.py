"""SIGTERM: finish or give back, exit 0. Whoever uses Tocsin notices nothing."""

import asyncio
import signal

import pytest
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet
from tests.chaos.load import Load

pytestmark = pytest.mark.chaos


async def test_every_replica_is_restarted_in_turn_under_load(fleet: Fleet, tenant: Tenant) -> None:
    load = await Load.prepare(tenant)
    async with load.under_way() as dice:
        replicas = fleet.replicas()
        dice.shuffle(replicas)
        for replica in replicas:
            assert await replica.stop() == 0, f"{replica.name}\n{replica.process.output.tail()}"
            await replica.start()
    await load.outcome("rolling restart")


async def test_notify_is_stopped_while_it_takes_a_page(fleet: Fleet, tenant: Tenant) -> None:
    """Its call begins when the others have ended already: it is waited for as well, and written down."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    answered = fleet.hooks.hang[ana.addresses[0]] = asyncio.Event()
    condition = f"NEW.org_id = '{tenant.org_id}'"
    async with fleet.breakpoint("notify", "notifications", "INSERT", condition) as point:
        incident = await prom.triggers("db down")
        stopping = await point.reached()
        stopping.process.send_signal(signal.SIGTERM)
        await fleet.not_serving(stopping)
        await point.let_go()
        await fleet.until("notify", "SELECT EXISTS (SELECT FROM attempts WHERE org_id = $1)", tenant.org_id)
        await fleet.for_a_while(0.3)  # the provider takes its time
    del fleet.hooks.hang[ana.addresses[0]]
    answered.set()
    assert await stopping.process.wait(timeout=20) == 0
    await ana.is_paged(incident)
    await fleet.orphans_come_due()
    await fleet.quiet()
