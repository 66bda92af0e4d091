"""One running Tocsin for all tests that look from outside; every test is a tenant of its own."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import settings
from tocsin_stack.scratch import scratch
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

# A busy machine is no fault of an example: no test asserts a time.
settings.register_profile("tocsin", deadline=None)
settings.load_profile("tocsin")


@pytest.fixture(scope="session")
async def world() -> AsyncIterator[World]:
    with scratch() as folder:
        async with World(folder) as world:
            yield world


@pytest.fixture
async def tenant(world: World) -> AsyncIterator[Tenant]:
    """A new customer. Anything that reached its people and that the test did not ask for fails the test."""
    tenant = world.tenant()
    yield tenant
    await world.idle()
    assert tenant.unexpected() == []
