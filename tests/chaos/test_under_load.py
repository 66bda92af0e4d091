"""Alerts keep coming while something is taken away. Nobody's page is lost, nobody is paged twice."""

import pytest
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet
from tests.chaos.load import Load

pytestmark = pytest.mark.chaos


async def test_with_two_of_everything_each_page_comes_once(fleet: Fleet, tenant: Tenant) -> None:
    load = await Load.prepare(tenant, per_second=15)
    async with load.under_way():
        await fleet.for_a_while(4)
    outcome = await load.outcome("two of everything")
    assert not outcome.refusals


async def test_services_killed_at_random_moments(fleet: Fleet, tenant: Tenant) -> None:
    load = await Load.prepare(tenant)
    async with load.under_way() as dice:
        for _ in range(2):
            for service in dice.sample(["ingest", "escalation", "notify"], 3):
                victim = dice.choice(fleet.replicas(service))
                victim.kill()
                await fleet.for_a_while(dice.uniform(0.1, 0.4))
                await victim.start()
    await load.outcome("killed at random", doubles=True)
