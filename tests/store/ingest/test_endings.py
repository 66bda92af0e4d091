"""Alerts whose end has come, on a real database: resolved in time, and never one that was sent again or could not be."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin_ingest.app.alerts.expire_alerts import ExpireAlerts
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.expiry import Expiry
from tocsin_ingest.domain.message import Action
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts import endings
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError

from tests.store.ingest.committing import check, commit, committer, rows
from tests.store.ingest.support import clock_of, new_org
from tests.unit.ingest.model import message

LIMITED = TocsinError(ErrorReason.ERROR_REASON_RATE_LIMITED, "too fast")


class House:
    """A database, its clock, a replica that serves, and the search for alerts that are over."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = clock_of(database)
        self.elapsed = 0.0
        self.times = IntakeTimes(database, lambda: True, lambda: self.elapsed)
        self.nudges = 0
        self.search = self.replica()

    def replica(self) -> ExpireAlerts:
        return ExpireAlerts(self.database, IngestMetrics(CollectorRegistry()), self._nudge)

    def _nudge(self) -> None:
        self.nudges += 1

    async def tenant(self) -> str:
        org = new_org()
        await self.database.run(
            org, lambda tx: integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "", b"", (), None))
        )
        await self.times.round()
        return org

    async def now(self) -> datetime:
        return await self.database.run(None, lambda tx: tx.now())

    async def sends(self, org: str, key: str = "disk", *, minutes: float | None = 4.0, group: str = "") -> int:
        """A trigger that names an end so far ahead of the database's clock; None: that names none."""
        after = timedelta(minutes=5)
        end = Expiry(after=after) if minutes is None else Expiry(at=await self.now() + timedelta(minutes=minutes))
        [answer] = await commit(
            committer(self.database), org, [replace(message(key, group=group, org=org), expiry=end)]
        )
        return answer.outcome

    async def firing(self, org: str) -> set[str]:
        return {
            row["dedup_key"] for row in await rows(self.database, org, "SELECT * FROM alerts WHERE state = 'firing'")
        }

    async def open(self, org: str) -> int:
        return len(await rows(self.database, org, "SELECT FROM incidents WHERE state = 'open'"))

    async def passes(self, **time: float) -> None:
        await self.clock.forward(timedelta(**time))
        self.elapsed += timedelta(**time).total_seconds()
        # As a replica that serves does every two seconds.
        async with self.database.system() as tx:
            await tx.execute("UPDATE intakes SET renew_time = app_now() WHERE org_id = '*'")
        await self.search.round()

    async def is_away(self, **time: float) -> None:
        """No replica serves for so long; then one does, and looks."""
        await self.clock.forward(timedelta(**time))
        self.elapsed += timedelta(**time).total_seconds()
        await self.times.round()
        await self.search.round()


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


async def because(house: House, org: str) -> str:
    [row] = await rows(house.database, org, "SELECT payload FROM outbox ORDER BY id DESC LIMIT 1")
    resolved = IncidentEvent.FromString(row["payload"]).resolved
    assert resolved.actor == INGEST
    return resolved.because


async def test_an_alert_is_resolved_at_the_end_that_its_sender_named(house: House) -> None:
    org = await house.tenant()
    assert await house.sends(org, minutes=60) == Outcome.OPENED
    await house.passes(minutes=58)
    assert await house.open(org) == 1
    await house.passes(minutes=3)
    assert (await house.open(org), house.nudges) == (0, 1)
    assert "before" in (told := await because(house, org)), told
    await check(house.database, org)
    assert await rows(house.database, org, "SELECT FROM alert_endings") == []


async def test_without_an_end_it_is_resolved_five_minutes_after_the_newest_trigger(house: House) -> None:
    org = await house.tenant()
    await house.sends(org, minutes=None)
    await house.passes(minutes=4)
    await house.sends(org, minutes=None)
    await house.passes(minutes=4)
    assert await house.open(org) == 1
    await house.passes(minutes=2)
    assert await house.open(org) == 0
    assert await because(house, org) == "it was not sent again for 5 minutes, and its sender had named no end"


async def test_each_repeat_puts_the_end_off_and_a_copy_that_comes_late_does_not_bring_it_forward(house: House) -> None:
    org = await house.tenant()
    for _ in range(5):
        await house.sends(org, minutes=4)
        await house.sends(org, minutes=1)
        await house.passes(minutes=2)
        assert await house.open(org) == 1
    await house.passes(minutes=3)
    assert await house.open(org) == 0


async def test_an_alert_that_was_resolved_before_leaves_the_next_one_of_its_key_alone(house: House) -> None:
    org = await house.tenant()
    await house.sends(org, minutes=4)
    await commit(committer(house.database), org, [message("disk", Action.RESOLVE, org=org)])
    await house.sends(org, minutes=60)
    await house.passes(minutes=5)
    assert await house.firing(org) == {"disk"}
    assert len(await rows(house.database, org, "SELECT FROM alert_endings")) == 1


async def test_only_the_alert_is_over_and_its_incident_with_the_last_one(house: House) -> None:
    org = await house.tenant()
    await house.sends(org, "disk", minutes=4, group="db")
    await house.sends(org, "load", minutes=8, group="db")
    await house.passes(minutes=5)
    assert (await house.firing(org), await house.open(org)) == ({"load"}, 1)
    await house.passes(minutes=5)
    assert (await house.firing(org), await house.open(org)) == (set(), 0)
    await check(house.database, org)


async def test_an_alert_that_is_suppressed_is_over_as_well(house: House) -> None:
    org = await house.tenant()
    sent = replace(message("disk", org=org, suppress=True), expiry=Expiry(after=timedelta(minutes=5)))
    await commit(committer(house.database), org, [sent])
    await house.passes(minutes=6)
    [row] = await rows(house.database, org, "SELECT state FROM alerts")
    assert row["state"] == "resolved"


async def test_after_an_outage_each_alert_has_its_whole_time_to_be_sent_again(house: House) -> None:
    org = await house.tenant()
    await house.sends(org, "disk", minutes=4)
    await house.sends(org, "load", minutes=4)
    await house.is_away(minutes=30)
    assert await house.open(org) == 2
    await house.passes(minutes=3)
    await house.sends(org, "load", minutes=4)
    await house.passes(minutes=2)
    assert await house.firing(org) == {"load"}
    await house.passes(minutes=3)
    assert await house.firing(org) == set()


async def test_after_a_limit_has_refused_its_alerts_each_has_its_whole_time_again(house: House) -> None:
    org, other = await house.tenant(), await house.tenant()
    for each in (org, other):
        await house.sends(each, minutes=4)
    await house.clock.forward(timedelta(minutes=3))
    house.times.refused(org, "prom", LIMITED)
    await house.times.round()
    await house.passes(minutes=2)
    assert (await house.open(org), await house.open(other)) == (1, 0)
    await house.passes(minutes=3)
    assert await house.open(org) == 0


async def test_two_replicas_resolve_each_alert_once(house: House) -> None:
    org = await house.tenant()
    for number in range(10):
        await house.sends(org, f"disk{number}")
    await house.clock.forward(timedelta(minutes=5))
    await house.times.round()
    house.elapsed += 300
    async with house.database.system() as tx:
        await tx.execute(
            "UPDATE intakes SET renew_time = app_now(), since = since - interval '1 hour' WHERE org_id = '*'"
        )
    await asyncio.gather(*(house.replica().round() for _ in range(2)))
    assert await house.open(org) == 0
    events = [
        IncidentEvent.FromString(row["payload"])
        for row in await rows(house.database, org, "SELECT payload FROM outbox")
    ]
    assert sum(event.HasField("resolved") for event in events) == 10
    await check(house.database, org)


@pytest.mark.parametrize("outage", [False, True])
async def test_a_repeat_that_comes_between_the_search_and_the_lock_keeps_it_open(
    house: House, monkeypatch: pytest.MonkeyPatch, outage: bool
) -> None:
    org = await house.tenant()
    await house.sends(org)
    due, sent = endings.due, False

    async def searching(tx: Tx, limit: int, *, without: Sequence[str]) -> list[endings.DueEnding]:
        nonlocal sent
        found = await due(tx, limit, without=without)
        if found and not sent:
            sent = True
            await house.sends(org, minutes=8)
        return found

    monkeypatch.setattr(endings, "due", searching)
    await (house.is_away(minutes=5) if outage else house.passes(minutes=5))
    assert sent
    await house.passes(minutes=7)
    assert await house.open(org) == 1


async def test_a_tenant_whose_alerts_cannot_be_resolved_now_holds_up_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_ingest.app.alerts.expire_alerts._AT_ONCE", 2)
    orgs = sorted([await house.tenant() for _ in range(3)])
    for org in orgs:
        for key in ("disk", "load"):
            await house.sends(org, key)
    take = endings.take

    async def fails(tx: Tx, ids: Sequence[UUID]) -> list[endings.Ended]:
        if tx.org_id == orgs[0]:
            raise TocsinError(ErrorReason.ERROR_REASON_CONFLICT, "another transaction holds the row")
        return await take(tx, ids)

    with monkeypatch.context() as patched:
        patched.setattr(endings, "take", fails)
        await house.passes(minutes=5)
        assert [await house.open(org) for org in orgs] == [2, 0, 0]
    await house.search.round()
    assert await house.open(orgs[0]) == 0
