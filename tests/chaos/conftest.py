"""One fleet for all of chaos. Every test is a tenant of its own and leaves everything running again."""

from collections.abc import AsyncIterator

import pytest
from tocsin_stack.scratch import scratch
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet


@pytest.fixture(scope="package")
async def fleet() -> AsyncIterator[Fleet]:
    with scratch() as folder:
        async with Fleet(folder) as fleet:
            yield fleet


@pytest.fixture
async def tenant(fleet: Fleet) -> AsyncIterator[Tenant]:
    """A new customer. In the end everything runs again, and nobody got anything the test did not ask for."""
    tenant = fleet.tenant()
    try:
        yield tenant
    finally:
        await fleet.heal()
    await fleet.quiet()
    assert tenant.unexpected() == []
