"""Incidents of which nothing is heard any more, on a real database: resolved in time, and never one that a trigger has touched."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.incidents.resolve_quiet import QuietIncidents, words
from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.message import Action
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.incidents import quiet, records
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

from tests.store.ingest.committing import check, commit, committer, rows
from tests.store.ingest.support import clock_of, new_org
from tests.unit.ingest.model import message


class House:
    """A database, its clock, and one replica's search for quiet incidents."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = clock_of(database)
        self.nudges = 0
        self.times = IntakeTimes(database, lambda: True, lambda: 0.0)
        self.search = self.replica()

    def replica(self) -> QuietIncidents:
        return QuietIncidents(self.database, IngestMetrics(CollectorRegistry()), self._nudge)

    def _nudge(self) -> None:
        self.nudges += 1

    async def tenant(self, after: timedelta | None) -> str:
        org = new_org()

        async def work(tx: Tx) -> None:
            await integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "", b"", (), after))

        await self.database.run(org, work)
        await self.times.round()
        return org

    async def triggers(self, org: str, key: str, group: str = "") -> int:
        [answer] = await commit(committer(self.database), org, [message(key, group=group, org=org)])
        return answer.outcome

    async def resolves(self, org: str, key: str, group: str = "") -> None:
        await commit(committer(self.database), org, [message(key, Action.RESOLVE, group=group, org=org)])

    async def open(self, org: str) -> int:
        return len(await rows(self.database, org, "SELECT FROM incidents WHERE state = 'open'"))

    async def passes(self, **time: float) -> int:
        await self.clock.forward(timedelta(**time))
        await self.times.round()
        return await self.search.round()


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


async def test_an_incident_is_resolved_after_as_long_as_its_integration_says(house: House) -> None:
    org = await house.tenant(timedelta(hours=6))
    await house.triggers(org, "disk")
    assert await house.passes(hours=5, minutes=50) == 0
    assert await house.passes(minutes=11) == 1
    assert (await house.open(org), house.nudges) == (0, 1)
    [row] = await rows(house.database, org, "SELECT payload FROM outbox ORDER BY id DESC LIMIT 1")
    resolved = IncidentEvent.FromString(row["payload"]).resolved
    assert (resolved.actor, resolved.because) == (INGEST, "no alert of it has come for 6 hours")
    await check(house.database, org)
    assert await house.passes(hours=6) == 0, "once"
    assert await house.triggers(org, "disk") == Outcome.OPENED


async def test_silence_is_not_told_to_escalation_as_an_end_before_the_beginning(house: House) -> None:
    """Escalation has been away since the trigger. What its sender resolved pages no one; what was silent may last, and pages."""
    org = await house.tenant(timedelta(hours=6))
    await house.triggers(org, "disk")
    await house.triggers(org, "load")
    await house.resolves(org, "load")
    assert await house.passes(hours=7) == 1
    incidents = await rows(house.database, org, "SELECT id, resolved_by FROM incidents")
    assert all(row["resolved_by"] for row in incidents)
    async with house.database.system() as tx:
        over = await records.over(tx, [(org, row["id"]) for row in incidents])
    assert over == {(org, row["id"]): row["resolved_by"] for row in incidents if row["resolved_by"] != INGEST}
    assert len(over) == 1


async def test_a_repeat_of_any_of_its_alerts_keeps_it_open(house: House) -> None:
    org = await house.tenant(timedelta(hours=2))
    await house.triggers(org, "disk", group="db")
    await house.triggers(org, "load", group="db")
    for _ in range(3):
        assert await house.passes(hours=1) == 0
        await house.triggers(org, "load", group="db")
    assert await house.open(org) == 1
    assert await house.passes(hours=2, minutes=1) == 1
    await check(house.database, org)


async def test_an_alert_that_came_lately_and_is_resolved_keeps_the_others_open(house: House) -> None:
    org = await house.tenant(timedelta(hours=2))
    await house.triggers(org, "disk", group="db")
    assert await house.passes(hours=1, minutes=55) == 0
    await house.triggers(org, "load", group="db")
    await house.resolves(org, "load", group="db")
    assert await house.passes(minutes=10) == 0
    assert await house.passes(hours=2) == 1
    await check(house.database, org)


async def test_without_the_setting_nothing_is_resolved_and_other_tenants_are_left_alone(house: House) -> None:
    never, often = await house.tenant(None), await house.tenant(timedelta(minutes=5))
    for org in (never, often):
        await house.triggers(org, "disk")
    assert await house.passes(days=60) == 1
    assert (await house.open(never), await house.open(often)) == (1, 0)


async def test_incidents_of_an_integration_that_was_deleted_run_on(house: House) -> None:
    org = await house.tenant(timedelta(minutes=5))
    await house.tenant(timedelta(minutes=5))  # another tenant's, so that there is something to look for
    await house.triggers(org, "disk")
    await house.database.run(org, lambda tx: integrations.delete(tx, "prom"))
    assert await house.passes(days=1) == 0
    assert await house.open(org) == 1


async def test_an_incident_that_has_just_opened_with_an_alert_of_long_ago_stays_open(house: House) -> None:
    """As at the end of a silence."""
    org = await house.tenant(timedelta(minutes=5))
    await house.triggers(org, "disk")
    long_ago = "UPDATE alerts SET last_receive_time = app_now() - interval '1 day' WHERE org_id = $1"
    await house.database.run(org, lambda tx: tx.execute(long_ago, org))
    assert await house.passes(minutes=1) == 0
    assert await house.passes(minutes=5) == 1


async def test_two_replicas_resolve_each_incident_once(house: House) -> None:
    org = await house.tenant(timedelta(minutes=5))
    for number in range(10):
        await house.triggers(org, f"disk{number}")
    replicas = [house.replica() for _ in range(2)]
    assert [await each.round() for each in replicas] == [0, 0]
    await house.clock.forward(timedelta(minutes=6))
    await house.times.round()
    resolved = await asyncio.gather(*(each.round() for each in replicas))
    assert sum(resolved) == 10
    await check(house.database, org)


async def test_a_trigger_that_comes_between_the_search_and_the_lock_keeps_it_open(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = await house.tenant(timedelta(minutes=5))
    await house.triggers(org, "disk")
    search, found = quiet.open_after, list[quiet.OpenIncident]()

    async def searching(tx: Tx, after: UUID, limit: int, since: datetime) -> list[quiet.OpenIncident]:
        found.extend(await search(tx, after, limit, since))
        await house.triggers(org, "disk")
        return found

    monkeypatch.setattr(quiet, "open_after", searching)
    assert await house.passes(minutes=6) == 0
    assert [each.quiet for each in found] == [True]
    assert await house.open(org) == 1


@pytest.mark.parametrize("failing", [1, 3])
async def test_a_tenant_whose_incidents_cannot_be_resolved_now_holds_up_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    orgs = [await house.tenant(timedelta(minutes=5)) for _ in range(4)]
    for org in orgs:
        await house.triggers(org, "disk")
    still_quiet, failed = quiet.still_quiet, set[str]()

    async def fails(tx: Tx, ids: Sequence[UUID], since: datetime) -> dict[UUID, timedelta]:
        if tx.org_id in failed or len(failed) < failing:
            failed.add(tx.org_id)
            raise TocsinError(ErrorReason.ERROR_REASON_CONFLICT, "another transaction holds the row")
        return await still_quiet(tx, ids, since)

    with monkeypatch.context() as patched:
        patched.setattr(quiet, "still_quiet", fails)
        assert await house.passes(minutes=6) == 4 - failing
    assert await house.search.round() == failing


async def test_every_open_incident_is_looked_at_however_many_there_are(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_ingest.app.incidents.resolve_quiet._BATCH", 2)
    monkeypatch.setattr("tocsin_ingest.app.incidents.resolve_quiet._BATCHES_A_ROUND", 2)
    org = await house.tenant(timedelta(minutes=5))
    for number in range(9):
        await house.triggers(org, f"disk{number}")
    await house.clock.forward(timedelta(minutes=6))
    await house.times.round()
    rounds = [await house.search.round() for _ in range(4)]
    assert sum(rounds) == 9
    assert max(rounds) <= 4, "a round is bounded"


@pytest.mark.parametrize(
    ("time", "told"),
    [
        (timedelta(minutes=5), "5 minutes"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(days=2, hours=6, minutes=1), "2 days 6 hours 1 minute"),
        (timedelta(seconds=301), "5 minutes 1 second"),
    ],
)
def test_times_are_told_in_words(time: timedelta, told: str) -> None:
    assert words(time) == told
