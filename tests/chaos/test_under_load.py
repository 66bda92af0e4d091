"""Alerts keep coming while something is taken away. No page is lost, and no user is paged twice."""

import asyncio

import pytest
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet
from tests.chaos.load import Load

pytestmark = [pytest.mark.chaos, pytest.mark.long]


async def test_with_two_of_everything_each_page_comes_once(fleet: Fleet, tenant: Tenant) -> None:
    load = await Load.prepare(tenant, per_second=15)
    async with load.under_way():
        await fleet.for_a_while(2)
    await load.outcome("two of everything")
    assert not load.refusals


async def test_services_are_killed_at_random_moments(fleet: Fleet, tenant: Tenant) -> None:
    """One replica of each, in any order, the next before the last is back; then all of one service at once."""
    load = await Load.prepare(tenant)
    async with load.under_way() as dice:
        async with asyncio.TaskGroup() as starting:
            for service in dice.sample(["ingest", "escalation", "notify"], 3):
                victim = dice.choice(fleet.replicas(service))
                await fleet.for_a_while(dice.uniform(0.2, 0.6))
                victim.kill()
                starting.create_task(victim.start())
        service = dice.choice(["ingest", "escalation", "notify"])
        fleet.kill(service)
        await asyncio.gather(*(victim.start() for victim in fleet.replicas(service)))
    await load.outcome("killed at random", doubles=True)
