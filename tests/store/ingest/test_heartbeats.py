"""Heartbeats on a real database: missing ones open an incident once, and an outage of Tocsin pages no one."""

from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.integrations import heartbeats as app
from tocsin_ingest.app.integrations.directory import Directory, Routing
from tocsin_ingest.app.integrations.heartbeats import Heartbeats
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.integrations import heartbeats, integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

from tests.store.ingest.committing import check, rows
from tests.store.ingest.support import clock_of, new_org

HOUR = timedelta(hours=1)


class House:
    """A database, its clock, and one replica."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = clock_of(database)
        self.nudges = 0
        self.times = IntakeTimes(database, lambda: True, lambda: 0.0)
        metrics = IngestMetrics(CollectorRegistry())
        self.alive = Heartbeats(database, Directory(database, metrics), metrics, self._nudge)

    def _nudge(self) -> None:
        self.nudges += 1

    async def tenant(self, interval: timedelta | None = HOUR, *names: str) -> str:
        org = new_org()

        async def work(tx: Tx) -> None:
            for name in names or ("backup",):
                await integrations.insert(tx, name, IntegrationConfig(f"the {name}", "", b"", ()))
                await heartbeats.expect(tx, name, interval)

        await self.database.run(org, work)
        await self.times.round()
        return org

    async def beats(self, org: str) -> bool:
        return (await self.alive.beat(org, "backup"))[1]

    async def open(self, org: str) -> list[str]:
        found = await rows(self.database, org, "SELECT title FROM incidents WHERE state = 'open' ORDER BY title")
        return [row["title"] for row in found]

    async def passes(self, **time: float) -> None:
        await self.clock.forward(timedelta(**time))
        await self.times.round()
        await self.alive.round()


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


async def test_one_that_never_came_opens_an_incident_once_and_its_return_resolves_it(house: House) -> None:
    org = await house.tenant()
    await house.passes(minutes=59)
    assert await house.open(org) == []
    await house.passes(minutes=2)
    assert await house.open(org) == ["no heartbeat from the backup for 1 hour"]
    [row] = await rows(house.database, org, "SELECT newest, count FROM alerts")
    assert AlertInput.FromString(row["newest"]).details["last heartbeat"] == "none has come"
    await house.passes(hours=5)
    assert [row["count"] for row in await rows(house.database, org, "SELECT count FROM alerts")] == [1]
    assert await house.beats(org)
    assert (await house.open(org), await house.beats(org), house.nudges) == ([], False, 2)
    await house.passes(minutes=61)
    assert len(await house.open(org)) == 1, "it may be missing again"
    await check(house.database, org)


async def test_while_they_come_nothing_opens(house: House) -> None:
    org = await house.tenant()
    for _ in range(4):
        await house.passes(minutes=50)
        assert not await house.beats(org)
    assert await rows(house.database, org, "SELECT FROM alerts") == []
    await house.passes(minutes=61)
    [row] = await rows(house.database, org, "SELECT newest FROM alerts")
    assert AlertInput.FromString(row["newest"]).details["last heartbeat"] != "none has come"


async def test_an_incident_that_was_missing_before_an_outage_stays_open(house: House) -> None:
    org = await house.tenant()
    await house.passes(minutes=61)
    house.times = IntakeTimes(house.database, lambda: True, lambda: 0.0)
    await house.passes(hours=3)
    assert len(await house.open(org)) == 1
    assert await house.beats(org)
    assert await house.open(org) == []


async def test_a_process_that_dies_leaves_the_mark_and_the_alert_or_neither(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = await house.tenant()

    async def dies(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(app, "decide_and_write", dies)
        await house.passes(minutes=61)
    assert await rows(house.database, org, "SELECT FROM integrations WHERE heartbeat_missing") == []
    await house.alive.round()
    assert len(await house.open(org)) == 1
    with monkeypatch.context() as patched:
        patched.setattr(app, "decide_and_write", dies)
        with pytest.raises(RuntimeError):
            await house.beats(org)
    assert await house.beats(org), "it is still missing for the next one"


async def test_one_that_comes_after_the_search_saw_it_due_pages_no_user(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = await house.tenant()
    await house.clock.forward(timedelta(minutes=61))
    async with house.database.system() as tx:
        seen = [each for each in await heartbeats.due(tx, 10, without=()) if each.org_id == org]
        long_ago = await tx.now() - timedelta(days=1)
    assert not await house.beats(org)
    await house.alive._miss(org, seen, long_ago)
    assert await house.open(org) == []


async def test_tenants_take_turns(house: House) -> None:
    many = await house.tenant(timedelta(minutes=2), *(f"job{number}" for number in range(6)))
    one = await house.tenant(timedelta(minutes=3))
    await house.clock.forward(timedelta(minutes=4))
    async with house.database.system() as tx:
        first = [each.org_id for each in await heartbeats.due(tx, 4, without=())]
    assert (first.count(one), first.count(many)) == (1, 3)
    await house.passes()
    assert (len(await house.open(many)), len(await house.open(one))) == (6, 1)


async def test_none_is_expected_any_more(house: House) -> None:
    org = await house.tenant(None)
    await house.passes(days=40)
    assert await house.open(org) == []
    with pytest.raises(TocsinError, match="has no heartbeat_interval"):
        await house.beats(org)


async def test_a_tenant_whose_heartbeats_cannot_be_marked_keeps_no_other_waiting(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = await house.tenant(), await house.tenant(HOUR + timedelta(minutes=1))
    routing = Directory.routing

    async def refused(self: Directory, org_id: str, integration_id: str) -> Routing:
        if org_id == stuck:
            raise TocsinError(ErrorReason.ERROR_REASON_CONFLICT, "somebody else has it")
        return await routing(self, org_id, integration_id)

    monkeypatch.setattr(Directory, "routing", refused)
    monkeypatch.setattr(app, "_AT_ONCE", 1)
    await house.passes(minutes=62)
    assert (await house.open(stuck), len(await house.open(other))) == ([], 1)
    monkeypatch.undo()
    await house.alive.round()
    assert len(await house.open(stuck)) == 1
