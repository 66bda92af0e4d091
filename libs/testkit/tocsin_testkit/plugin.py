"""Fixtures for tests of your own policies: `pytest_plugins = ["tocsin_testkit.plugin"]` in a conftest.py."""

from collections.abc import AsyncIterator

import pytest
from tocsin_stack.scratch import scratch

from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World


@pytest.fixture(scope="session")
async def world() -> AsyncIterator[World]:
    """One running Tocsin for all tests of a run."""
    with scratch() as folder:
        async with World(folder) as world:
            yield world


@pytest.fixture
async def tenant(world: World) -> AsyncIterator[Tenant]:
    """A new customer for each test. What reaches its people and the test did not ask for fails the test."""
    async with world.customer() as tenant:
        yield tenant
