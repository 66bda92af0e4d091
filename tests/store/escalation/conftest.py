"""Escalation on a real PostgreSQL, one database per test; Redis and the other services are recorders."""

import itertools
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

from tests.store.escalation.recorders import Arming, Desk, Paging, Relay

MIGRATIONS = Path(tocsin_escalation.__file__).parent.parent / "migrations"
_number = itertools.count()


@pytest.fixture
async def url(postgres: Postgres) -> AsyncIterator[str]:
    name = f"escalation_{next(_number)}"
    yield await postgres.clone_database("tocsin_escalation", name)
    await postgres.drop_database(name)


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    database = await dialed(url, name="escalation-test", tenant_url=tenant_url(url), size=8)
    yield database
    await database.close()


@pytest.fixture
async def sessions() -> AsyncIterator[OwnerSessions]:
    """The clock is moved several times in a test, through one session."""
    kept = OwnerSessions()
    yield kept
    await kept.close()


@pytest.fixture
async def desk(db: Database, url: str, sessions: OwnerSessions) -> Desk:
    """A tenant with two people, a policy of two levels, and everything an operator's use cases need."""
    effects = Effects(Arming(), Paging(), Relay(), EscalationMetrics(CollectorRegistry()))
    desk = Desk(db, url, sessions, effects)
    await desk.set_up()
    return desk
