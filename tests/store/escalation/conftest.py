"""Escalation on a real PostgreSQL; Redis and the other services are recorders.

Each test finds an empty database. A test that asks for `url` has one of its own, in which it may change more than rows.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import tocsin_escalation
from prometheus_client import CollectorRegistry
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_kit.db.pool import Database
from tocsin_stack.postgres import Postgres, tenant_url
from tocsin_testkit.databases import dialed
from tocsin_testkit.owner_sessions import OwnerSessions

from tests.store.emptied import Emptied
from tests.store.escalation.recorders import Arming, Desk, Paging, Relay

MIGRATIONS = Path(tocsin_escalation.__file__).parent.parent / "migrations"


@pytest.fixture(scope="session")
async def emptied(postgres: Postgres) -> AsyncIterator[Emptied]:
    databases = Emptied(postgres, "tocsin_escalation", "escalation")
    yield databases
    await databases.close()


@pytest.fixture
async def place(emptied: Emptied, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async with emptied.own() if "url" in request.fixturenames else emptied.lent() as url:
        yield url


@pytest.fixture
async def url(place: str) -> str:
    return place


@pytest.fixture
async def db(place: str) -> AsyncIterator[Database]:
    database = await dialed(place, name="escalation-test", tenant_url=tenant_url(place), size=8)
    yield database
    await database.close()


@pytest.fixture
async def sessions() -> AsyncIterator[OwnerSessions]:
    """The clock is moved several times in a test, through one session."""
    kept = OwnerSessions()
    yield kept
    await kept.close()


@pytest.fixture
async def desk(db: Database, place: str, sessions: OwnerSessions) -> Desk:
    """A tenant with two people, a policy of two levels, and everything an operator's use cases need."""
    effects = Effects(Arming(), Paging(), Relay(), EscalationMetrics(CollectorRegistry()))
    desk = Desk(db, place, sessions, effects)
    await desk.set_up()
    return desk
