"""Pauses of transient alerts on a real PostgreSQL, without Redis: they are rows only, and survive a process that dies or is
late."""

import asyncio
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertOutcome
from tocsin.ingest.v1.integration_service_pb2 import Integration, RoutingRule
from tocsin_ingest.app.alerts import look_again
from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.store.alerts import holds
from tocsin_ingest.store.alerts.due_alerts import DueAlert
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_testkit.clock import MovableClock

from tests.store.ingest.silenced import Replica, expires, opened, rows, silenced
from tests.store.ingest.support import new_org

PAUSED = AlertOutcome.ALERT_OUTCOME_PAUSED
SILENCED = AlertOutcome.ALERT_OUTCOME_SILENCED


async def pausing(database: Database, org: str, *, seconds: int = 60, group_by: tuple[str, ...] = ()) -> None:
    """The integration `prom`, which pauses everything."""
    rule = RoutingRule(group_by=group_by, pause=Duration(seconds=seconds), policy="policies/p")
    async with database.transaction(org) as tx:
        await integrations.insert(
            tx, "prom", IntegrationConfig("Prometheus", "", Integration(routing_rules=[rule]).SerializeToString(), ())
        )


async def left(database: Database, org: str) -> int:
    return len(await rows(database, org, "SELECT FROM alert_pauses"))


async def test_what_still_fires_opens_once_when_the_pause_is_over_and_no_replica_served_for_longer(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    """The process that paused them is gone, and others look when its time is over twice: nothing of it was in memory."""
    await pausing(database, org)
    for key in ("a", "a", "b", "c"):
        assert (await replica.sends(key, "prom")).outcome == PAUSED
    await clock.forward(timedelta(seconds=30))
    answer = await replica.sends("a", "prom")
    assert (answer.outcome, answer.count, answer.HasField("pause_end_time")) == (PAUSED, 3, True)
    await replica.sends("b", "prom", action=3)
    await replica.look.round()
    assert (await opened(database, org), await left(database, org)) == ([], 2), "a resolve removes the row"
    await clock.forward(timedelta(minutes=2))
    others = [Replica(database, org) for _ in range(2)]
    await asyncio.gather(*(each.look.round() for each in others))
    assert sorted(await opened(database, org)) == ["a is wrong", "c is wrong"]
    assert await left(database, org) == 0
    found = await rows(
        database, org, "SELECT dedup_key, count, policy FROM alerts JOIN incidents i ON i.id = incident_id"
    )
    assert {tuple(row) for row in found} == {("a", 3, "policies/p"), ("c", 1, "policies/p")}


async def test_a_silence_that_is_ended_early_leaves_the_rest_of_the_pause(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await pausing(database, org)
    silence = await silenced(database, org, minutes=30)
    assert (await replica.sends("a", "prom")).outcome == SILENCED
    await clock.forward(timedelta(seconds=40))
    assert (await replica.sends("b", "prom")).outcome == SILENCED
    await expires(database, org, silence)
    await replica.look.round()
    assert (await opened(database, org), await left(database, org)) == ([], 2)
    await clock.forward(timedelta(seconds=21))
    await replica.look.round()
    assert await opened(database, org) == ["a is wrong"]
    await clock.forward(timedelta(seconds=40))
    await replica.look.round()
    assert await opened(database, org) == ["a is wrong", "b is wrong"]


async def test_a_pause_that_ends_in_a_silence_is_forgotten_and_the_end_of_that_opens(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    await pausing(database, org)
    await silenced(database, org, minutes=30)
    await replica.sends("a", "prom")
    await clock.forward(timedelta(minutes=2))
    await replica.look.round()
    assert await left(database, org) == 0, "no round walks over what a silence holds back for long"
    assert (await replica.sends("a", "prom")).outcome == SILENCED
    await clock.forward(timedelta(minutes=29))
    await replica.look.round()
    assert await opened(database, org) == ["a is wrong"]


async def test_a_tenant_whose_alerts_must_wait_keeps_no_other_waiting(
    replica: Replica, database: Database, org: str, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded, submit = new_org(), replica.batches.submit

    async def overloaded(entry: Entry) -> bytes:
        if entry.org_id == crowded:
            raise TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "too much waits")
        return await submit(entry)

    for tenant in (crowded, org):
        await pausing(database, tenant)
        for number in range(3):
            await Replica(database, tenant).sends(f"k{number}", "prom")
    await clock.forward(timedelta(minutes=1))
    monkeypatch.setattr(look_again, "_AT_ONCE", 2)
    monkeypatch.setattr(replica.batches, "submit", overloaded)
    await replica.look.round()
    assert (len(await opened(database, org)), await left(database, crowded)) == (3, 3)
    monkeypatch.undo()
    await replica.look.round()
    assert len(await opened(database, crowded)) == 3


async def test_what_changes_under_a_pause_decides_when_it_is_over(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    """Labels decide as they came; an alert of a deleted integration opens; a row that no alert needs any more is dropped."""
    long = "x" * 1500
    await pausing(database, org, group_by=("path",))
    for key, value in (("a", f"{long}a"), ("b", f"{long}b"), ("c", f"{long}a")):
        assert (await replica.sends(key, "prom", {"path": value})).outcome == PAUSED
    await clock.forward(timedelta(minutes=1))
    await replica.look.round()
    found = await rows(database, org, "SELECT firing_count FROM incidents ORDER BY firing_count")
    assert [row["firing_count"] for row in found] == [1, 2]
    for key in ("d", "e", "f"):
        await replica.sends(key, "prom", {"path": key})
    async with database.transaction(org) as tx:
        await integrations.update(tx, "prom", IntegrationConfig("Prometheus", "", b"", (), None))
    replica.directory.changed(org, "prom")
    await replica.sends("d", "prom", {"path": "d"})
    await replica.sends("f", "prom", action=3)
    assert ((await opened(database, org))[2:], await left(database, org)) == (["d is wrong"], 2), "of d and e"
    async with database.transaction(org) as tx:
        await integrations.delete(tx, "prom")
    await clock.forward(timedelta(minutes=1))
    await replica.look.round()
    assert (await opened(database, org))[3:] == ["e is wrong"]
    assert await left(database, org) == 0


async def test_silences_that_cannot_be_looked_for_hold_up_no_pause(
    replica: Replica, database: Database, org: str, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> list[DueAlert]:
        raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "its statement took too long")

    await pausing(database, org)
    await replica.sends("a", "prom")
    await clock.forward(timedelta(minutes=1))
    monkeypatch.setattr(holds, "due", fails)
    with pytest.raises(TocsinError):
        await replica.look.round()
    assert await opened(database, org) == ["a is wrong"]
