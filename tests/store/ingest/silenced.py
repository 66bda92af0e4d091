"""Replicas, silences and what became of them, for the tests of silences."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, AlertInput, AlertOutcome
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator
from tocsin.ingest.v1.silence_service_pb2 import (
    CreateSilenceRequest,
    ExpireSilenceRequest,
    Silence,
)
from tocsin_ingest.app.alerts.commit_batch import CommitBatch, Entry
from tocsin_ingest.app.alerts.look_again import LookAgain
from tocsin_ingest.app.alerts.route_alert import Stated, route_alert
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.silences import silences
from tocsin_ingest.http import fit
from tocsin_ingest.metrics import IngestMetrics
from tocsin_kit.batches import Batches
from tocsin_kit.budgets import OBJECTS, Budgets, Limit
from tocsin_kit.db.pool import Database
from tocsin_kit.metrics import Metrics
from tocsin_testkit.clock import MovableClock

from tests.store.ingest.support import clock_of, new_org

SILENCED = AlertOutcome.ALERT_OUTCOME_SILENCED
PROD = LabelMatcher(label="env", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value="prod")
NEVER = 3600.0


class Replica:
    """What one process has in memory; the database is all that replicas share. `ttl`: how old what it knows may be."""

    def __init__(self, database: Database, org: str, ttl: float = 0.0) -> None:
        self.database, self.org = database, org
        self.metrics = IngestMetrics(CollectorRegistry())
        self.directory = Directory(database, self.metrics, ttl=ttl)
        self.batches: Batches[Entry, bytes] = Batches(
            CommitBatch(database, self.metrics, lambda _: None), most=100, lane=lambda entry: entry.org_id, at_once=2
        )
        self.look = LookAgain(database, self.directory, self.batches, self.metrics)

    async def sends(
        self, key: str, integration: str = "", labels: Mapping[str, str] | None = None, **fields: Any
    ) -> SendAlertResponse:
        """`labels`: beside `env`, however long."""
        alert = AlertInput(dedup_key=key, summary=f"{key} is wrong", **fields)
        whole = {"env": "prod", **(labels or {})}
        fit.set_labels(alert, whole)
        routing = await self.directory.routing(self.org, integration)
        message = route_alert(self.directory, self.org, "users/ana", routing, alert, Stated(whole))
        return SendAlertResponse.FromString(await self.batches.submit(Entry(self.org, message)))

    async def resolves(self, key: str) -> SendAlertResponse:
        return await self.sends(key, action=ALERT_ACTION_RESOLVE)


async def silenced(database: Database, org: str, *, minutes: float = 30, begins: float = 0, **fields: Any) -> str:
    """A silence of everything in production, by the database's clock: its name."""
    budgets = Budgets([Limit(OBJECTS, 10_000)], Metrics())
    async with database.transaction(org) as tx:
        request = CreateSilenceRequest(silence=Silence(matchers=[PROD], reason="upgrade", **fields))
        request.silence.start_time.FromDatetime(await tx.now() + timedelta(minutes=begins))
        request.duration.FromTimedelta(timedelta(minutes=minutes))
        return (await silences.create(tx, request, "users/ana", budgets)).name


# Who waits for a row holds this lock of it; the lock that is waited for names no database.
ROW_IS_AWAITED = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'tuple'
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


async def expires(database: Database, org: str, name: str) -> Silence:
    async with database.transaction(org) as tx:
        await tx.execute("SET LOCAL lock_timeout = '60s'")
        return await silences.expire(tx, ExpireSilenceRequest(name=name))


async def opened(database: Database, org: str) -> list[str]:
    """The titles of the incidents that escalation is told of."""
    async with database.transaction(org) as tx:
        rows = await tx.fetch("SELECT payload FROM outbox ORDER BY id")
    events = [IncidentEvent.FromString(row["payload"]) for row in rows]
    return [event.opened.title for event in events if event.HasField("opened")]


async def rows(database: Database, org: str, sql: str) -> list[asyncpg.Record]:
    async with database.transaction(org) as tx:
        return await tx.fetch(sql)


@pytest.fixture
def org() -> str:
    return new_org()


@pytest.fixture
def replica(database: Database, org: str) -> Replica:
    return Replica(database, org)


@pytest.fixture
async def clock(database: Database) -> MovableClock:
    """Hours behind the clock of this machine, which nothing may read."""
    clock = clock_of(database)
    await clock.forward(timedelta(hours=-5))
    return clock
