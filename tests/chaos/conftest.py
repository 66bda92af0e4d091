"""One fleet for all of chaos. Every test is a tenant of its own and leaves everything running again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tocsin_stack.scratch import scratch
from tocsin_stack.valkey import Valkey
from tocsin_testkit.prepared import Prepared
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet
from tests.timers.support import server


@pytest.fixture(scope="session")
async def fleet(prepared: Prepared) -> AsyncIterator[Fleet]:
    with scratch() as folder:
        async with Fleet(folder, prepared=prepared) as fleet:
            yield fleet


@pytest.fixture(scope="session")
async def safe(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    """A server that no test harms: what the fault tests of the timers write their acts into."""
    async with server(Path(tmp_path_factory.mktemp("safe"))) as valkey:
        yield valkey


@pytest.fixture
async def tenant(fleet: Fleet) -> AsyncIterator[Tenant]:
    """A new customer. In the end everything runs again, and no person got a page that the test did not expect."""
    tenant = fleet.tenant()
    try:
        yield tenant
    finally:
        await fleet.heal()
    await fleet.idle()
    assert tenant.unexpected() == []
