"""A storm: every person gets at most their budget of pages one by one, all critical ones, and finds everything behind the rest."""

from collections.abc import Sequence

import pytest
from tocsin_stack.scratch import scratch
from tocsin_testkit.prepared import Prepared
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests import storms
from tests.storms import Struck


def holds(struck: Sequence[Struck], budget: int, messages: int) -> None:
    """What each of them was promised. `messages`: those that may stand for several pages."""
    for one in struck:
        alone = {message.incident for message in one.alone}
        assert one.critical <= alone, "critical ones never wait"
        assert len(alone - one.critical) == budget
        assert len(one.alone) == len(alone)
        assert 1 <= len(one.together) <= messages
        assert {message.kind for message in one.got} == {"new_incident", "bundle"}


async def test_no_user_gets_more_than_their_budget_and_each_finds_everything(tenant: Tenant) -> None:
    await storms.budget(tenant, 3)
    struck = await storms.people(tenant, 3)
    await storms.strike(struck, 52, at_once=52)
    await tenant.passes(seconds=31)
    await storms.all_is_told(struck)
    holds(struck, 3, messages=1)
    for one in struck:
        for message in one.got:
            tenant.expected(message)


@pytest.mark.long
async def test_ten_thousand_incidents_for_twenty_people_in_a_minute(prepared: Prepared) -> None:
    with scratch() as folder:
        async with World(folder, prepared=prepared, environment={"NOTIFY_STORM_PAGES": "10"}) as world:
            struck = await storms.people(world.tenant(), 20)
            await storms.strike(struck, 500, seconds=60)
            await storms.all_is_told(struck)
            # After 30 s, after another 60, and what a busy machine still has to hand over then.
            holds(struck, 10, messages=4)
