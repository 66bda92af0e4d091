"""One real PostgreSQL for all of the kit's store tests, an empty database for each.

A test that asks for `url` has one of its own, in which it may change more than rows, and so has each test of `_OF_SESSIONS`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_stack.postgres import Postgres
from tocsin_stack.postgres import tenant_url as tenant_url_of
from tocsin_testkit.busy import within
from tocsin_testkit.databases import dialed

from tests.store.emptied import Emptied

_OF_SESSIONS: Final = frozenset(
    f"test_{name}"
    for name in (
        "autocommit",
        "failover",
        "own_sessions",
        "pool",
        "pool_outages",
        "pool_sharing",
        "rights",
        "session_settings",
        "session_transaction",
        "tenant_login",
        "type_lookups",
    )
)
"""Files about sessions themselves: one that another test has had would show less, and some of these tests end all sessions."""
_GONE: Final = {name for name in _OF_SESSIONS if not Path(__file__).with_name(f"{name}.py").is_file()}
assert not _GONE, "these files have another name now"
MIGRATIONS = Path(__file__).with_name("migrations")

OpenDatabase = Callable[..., Awaitable[Database]]


@pytest.fixture(scope="session")
async def kit_template(postgres: Postgres) -> str:
    owner = await postgres.ensure_database("kit_template", "kit")
    await upgrade(owner, MIGRATIONS, tenant_url=await postgres.ensure_tenant_login("kit_template", "kit"))
    await postgres.warm("kit_template")
    return "kit_template"


@pytest.fixture(scope="session")
async def emptied(postgres: Postgres, kit_template: str) -> AsyncIterator[Emptied]:
    databases = Emptied(postgres, kit_template, "kit")
    yield databases
    await databases.close()


@pytest.fixture
async def place(emptied: Emptied, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    is_own = "url" in request.fixturenames or request.path.stem in _OF_SESSIONS
    async with emptied.own() if is_own else emptied.lent() as url:
        yield url


@pytest.fixture
async def url(place: str) -> str:
    return place


@pytest.fixture
def tenant_url(url: str) -> str:
    """The test's database as the login of calls."""
    return tenant_url_of(url)


@pytest.fixture
async def open_database(place: str) -> AsyncIterator[OpenDatabase]:
    """Opens one more pool on the test's database, as another replica would."""
    opened: list[Database] = []

    async def open_one(**options: float | str) -> Database:
        database = await dialed(place, name="kit-test", **{"size": 5, **options})
        opened.append(database)
        return database

    yield open_one
    for database in opened:
        await database.close()


@pytest.fixture
async def db(open_database: OpenDatabase) -> Database:
    return await open_database()


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Awaitable[None]]:
    """Waits until an async condition holds; fails after `seconds` of an idle machine."""

    async def wait(condition: Callable[[], Awaitable[object]], *, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + within(seconds)
        while not await condition():
            assert time.monotonic() < deadline, "the condition never came true"
            await asyncio.sleep(0.005)

    return wait
