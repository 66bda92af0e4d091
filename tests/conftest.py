"""One running Tocsin for all tests that look from outside; every test is a tenant of its own."""

import gc
import os
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest
import structlog
from hypothesis import settings
from tocsin_kit import gc_tuning
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_testkit.prepared import Prepared
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests import opened, order, preloaded, reports, rounds, worker_forks

opened.install()
preloaded.install()

# The servers of tests speak no TLS. Without this each of the thousands of sessions makes ready for it first.
os.environ["PGSSLMODE"] = "disable"

# A busy machine is no fault of an example: no test asserts a time.
# A short round tries the same examples each time, so that it says something about the change and not about the dice.
settings.register_profile("tocsin", deadline=None, max_examples=rounds.examples(200), derandomize=not rounds.LONG)
settings.load_profile("tocsin")

# Without this, an error that a service logs in a test's own process is shown with all local variables, for a tenth of a second.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_configure(config: pytest.Config) -> None:
    """Delay everything at random, if the environment asks for it."""
    if "JITTER" in os.environ:
        from tests import jitter

        jitter.install()
        config.pluginmanager.register(jitter)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Modules and items are no garbage, and there are many: looking through them takes a third of the collection's time."""
    with gc_tuning.switched_off():
        collected = yield
    gc_tuning.tune()
    # A replica in a test's process is ten times what a service's young generation holds: all of it was looked through twice.
    gc.set_threshold(100_000, 10, 10)
    return collected


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Choose the order."""
    order.sort(items)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Say little of what passed."""
    return reports.run(item, nextitem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """End servers that no test of this worker will use again."""
    torn_down = yield
    order.end_what_is_over(item, nextitem)
    return torn_down


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Make the workers cheap."""
    worker_forks.install(config)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Choose what stays together."""
    return order.Scheduling(config, log)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Migrated databases, made while workers start, or by whichever process needs them first."""
    folder = tmp_path_factory.getbasetemp()
    return Prepared(worker_forks.databases_of(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder))


@pytest.fixture(scope="session")
async def postgres(prepared: Prepared) -> AsyncIterator[Postgres]:
    """One server for all tests that need no service, with a migrated database of each service to clone."""
    async with prepared.server() as server:
        yield server


@pytest.fixture(scope="session")
async def world(prepared: Prepared) -> AsyncIterator[World]:
    with scratch() as folder:
        async with World(folder, prepared=prepared) as world:
            yield world


@pytest.fixture
async def tenant(world: World) -> AsyncIterator[Tenant]:
    """A new customer; what the test did not ask for fails it."""
    async with world.customer() as tenant:
        yield tenant
