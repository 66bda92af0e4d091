"""Silences on a real PostgreSQL, without Redis: no user stays unpaged by a silence that is over, even if a process dies or is
late."""

import asyncio
import contextlib
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertInput, AlertOutcome
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator
from tocsin.ingest.v1.silence_service_pb2 import (
    Silence,
    SilenceRecurrence,
    UpdateSilenceRequest,
)
from tocsin_ingest.app.alerts import look_again
from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.silences import silences
from tocsin_ingest.store import silences as store
from tocsin_ingest.store.alerts import holds
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig
from tocsin_ingest.store.retention import STATEMENTS, delete_old
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_testkit.clock import MovableClock

from tests.store.ingest.silenced import NEVER, ROW_IS_AWAITED, SILENCED, Replica, expires, opened, rows, silenced
from tests.store.ingest.support import new_org


@pytest.mark.parametrize(("heard", "watched", "opens"), [(0, 0, []), (25, 0, ["a is wrong"]), (0, 25, ["a is wrong"])])
async def test_what_its_integration_takes_for_over_opens_nothing_at_the_end(
    replica: Replica, database: Database, org: str, clock: MovableClock, heard: int, watched: int, opens: list[str]
) -> None:
    """After ten minutes without a word; `heard` in this minute at last, and triggers could come from minute `watched` on."""
    async with database.transaction(org) as tx:
        await integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "", b"", (), timedelta(minutes=10)))
    await silenced(database, org, minutes=30)
    times = IntakeTimes(database, lambda: True, lambda: 0.0)
    for minute, passed in ((0, 0), (25, 25), (30, 5)):
        await clock.forward(timedelta(minutes=passed))
        if minute >= watched:
            await times.round()
        if minute in (0, heard):
            await replica.sends("a", "prom")
    await replica.look.round()
    assert await opened(database, org) == opens
    [alert] = await rows(database, org, "SELECT state FROM alerts")
    assert alert["state"] == ("firing" if opens else "resolved")
    assert await rows(database, org, "SELECT * FROM alert_holds") == []


async def test_a_tenant_whose_alerts_must_wait_keeps_no_other_waiting(
    replica: Replica, database: Database, org: str, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded, submit = new_org(), replica.batches.submit

    async def overloaded(entry: Entry) -> bytes:
        if entry.org_id == crowded:
            raise TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "too much waits")
        return await submit(entry)

    for tenant in (crowded, org):
        await silenced(database, tenant, minutes=30)
        sender = Replica(database, tenant)
        for number in range(3):
            await sender.sends(f"k{number}")
    await clock.forward(timedelta(minutes=31))
    monkeypatch.setattr(look_again, "_AT_ONCE", 2)
    monkeypatch.setattr(replica.batches, "submit", overloaded)
    await replica.look.round()
    assert sorted(await opened(database, org)) == ["k0 is wrong", "k1 is wrong", "k2 is wrong"]
    assert len(await rows(database, crowded, "SELECT * FROM alert_holds")) == 3
    monkeypatch.undo()
    await replica.look.round()
    assert len(await opened(database, crowded)) == 3


async def test_what_still_fires_opens_its_incident_at_the_end_though_the_replica_that_took_it_is_gone(
    database: Database, org: str, clock: MovableClock
) -> None:
    first = Replica(database, org)
    await silenced(database, org, minutes=30)
    assert (await first.sends("a")).outcome == SILENCED
    assert [(each.outcome, each.count) for each in [await first.sends("a")]] == [(SILENCED, 2)]
    assert (await first.sends("b")).silence
    await first.resolves("b")
    await first.look.round()
    assert await opened(database, org) == []
    await clock.forward(timedelta(minutes=30))  # and no replica is running
    await clock.forward(timedelta(minutes=10))
    later = Replica(database, org)
    await later.look.round()
    assert await opened(database, org) == ["a is wrong"]
    await later.look.round()
    assert await opened(database, org) == ["a is wrong"]
    assert await rows(database, org, "SELECT * FROM alert_holds") == []
    [alert] = await rows(database, org, "SELECT count, state FROM alerts WHERE dedup_key = 'a'")
    assert tuple(alert) == (2, "firing")
    [heard] = await rows(
        database,
        org,
        "SELECT a.last_receive_time = i.create_time AS at_the_end FROM alerts a JOIN incidents i ON i.id = a.incident_id",
    )
    assert heard["at_the_end"], "an open incident that it joins would count as quiet at once"


async def test_a_trigger_after_the_end_needs_no_look(replica: Replica, clock: MovableClock) -> None:
    await silenced(replica.database, replica.org, minutes=30)
    held = await replica.sends("a")
    await clock.forward(timedelta(minutes=30))
    fired = await replica.sends("a")
    assert (fired.outcome, fired.alert) == (AlertOutcome.ALERT_OUTCOME_OPENED, held.alert)
    await replica.look.round()
    assert await opened(replica.database, replica.org) == ["a is wrong"]


async def test_a_silence_in_the_future_silences_from_its_start_on(replica: Replica, clock: MovableClock) -> None:
    await silenced(replica.database, replica.org, begins=10)
    assert (await replica.sends("a")).outcome == AlertOutcome.ALERT_OUTCOME_OPENED
    await clock.forward(timedelta(minutes=10))
    assert (await replica.sends("b")).outcome == SILENCED
    assert (await replica.sends("a")).outcome == AlertOutcome.ALERT_OUTCOME_DEDUPLICATED


async def test_a_replica_that_has_not_heard_of_the_end_keeps_no_user_unpaged(database: Database, org: str) -> None:
    """The other replica still knows the silence when it was ended, and everything it held back was looked at already."""
    here, there = Replica(database, org), Replica(database, org, ttl=NEVER)
    name = await silenced(database, org)
    assert (await there.sends("a")).outcome == SILENCED
    await expires(database, org, name)
    await here.look.round()
    assert await opened(database, org) == ["a is wrong"]
    assert (await there.sends("b")).outcome == AlertOutcome.ALERT_OUTCOME_OPENED


async def test_a_replica_that_has_not_heard_of_a_change_keeps_no_user_unpaged(database: Database, org: str) -> None:
    here, there = Replica(database, org), Replica(database, org, ttl=NEVER)
    name = await silenced(database, org)
    assert (await there.sends("a")).outcome == SILENCED
    only_tests = LabelMatcher(label="env", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value="test")
    async with database.transaction(org) as tx:
        request = UpdateSilenceRequest(
            silence=Silence(name=name, matchers=[only_tests]), update_mask=FieldMask(paths=["matchers"])
        )
        await silences.update(tx, request)
    await here.look.round()
    assert (await there.sends("b")).outcome == SILENCED, "it cannot tell whether the changed silence matches"
    await here.look.round()
    assert sorted(await opened(database, org)) == ["a is wrong", "b is wrong"]


async def test_an_end_waits_for_the_alerts_that_are_being_held_back(database: Database, org: str) -> None:
    """Else one could be held back after everything that the silence held back was looked at."""
    replica = Replica(database, org)
    name = await silenced(database, org)
    async with database.transaction(org) as tx:
        await store.windows(tx, [UUID(name.removeprefix("silences/"))], await tx.now())
        ending = asyncio.create_task(expires(database, org, name))
        async with database.system() as watching:
            async with asyncio.timeout(30):
                while not await watching.fetchval(ROW_IS_AWAITED):
                    await asyncio.sleep(0.01)
        assert not ending.done()
    assert (await ending).end_time.seconds
    assert (await replica.sends("a")).outcome == AlertOutcome.ALERT_OUTCOME_OPENED


async def test_a_silence_that_is_extended_holds_on(replica: Replica, clock: MovableClock) -> None:
    database, org = replica.database, replica.org
    name = await silenced(database, org, minutes=30)
    await replica.sends("a")
    async with database.transaction(org) as tx:
        later = Silence(name=name)
        later.end_time.FromDatetime(await tx.now() + timedelta(minutes=60))
        await silences.update(tx, UpdateSilenceRequest(silence=later))
    await replica.look.round()
    await clock.forward(timedelta(minutes=59))
    await replica.look.round()
    assert await opened(database, org) == []
    await clock.forward(timedelta(minutes=1))
    await replica.look.round()
    assert await opened(database, org) == ["a is wrong"]


async def test_a_window_that_comes_again_silences_each_time_and_pages_at_each_end(
    replica: Replica, clock: MovableClock
) -> None:
    database, org = replica.database, replica.org
    again = SilenceRecurrence(time_zone="UTC")
    async with database.transaction(org) as tx:
        again.until_time.FromDatetime(await tx.now() + timedelta(days=2, minutes=10))
    await silenced(database, org, minutes=30, recurrence=again)
    for number, (minutes, outcome) in enumerate(
        (
            (0, SILENCED),
            (30, AlertOutcome.ALERT_OUTCOME_OPENED),
            (24 * 60 - 30, SILENCED),
            (30, AlertOutcome.ALERT_OUTCOME_OPENED),
            (24 * 60 - 30, SILENCED),
            (10, AlertOutcome.ALERT_OUTCOME_OPENED),
        )
    ):
        await clock.forward(timedelta(minutes=minutes))
        await replica.look.round()
        held = await rows(database, org, "SELECT 1 FROM alert_holds")
        assert held == [], "everything before this moment has been paged"
        assert (await replica.sends(f"a{number}")).outcome == outcome
    assert len(await opened(database, org)) == 6


async def test_another_silence_in_force_at_the_end_takes_over(replica: Replica, clock: MovableClock) -> None:
    database, org = replica.database, replica.org
    await silenced(database, org, minutes=10)
    second = await silenced(database, org, begins=10, minutes=10)
    await replica.sends("a")
    await clock.forward(timedelta(minutes=10))
    await replica.look.round()
    assert await opened(database, org) == []
    async with database.transaction(org) as tx:
        row = await store.get(tx, UUID(second.removeprefix("silences/")))
    assert row is not None
    assert (row.held_alerts, row.silenced_alerts, row.silenced_messages) == (1, 1, 0)
    await clock.forward(timedelta(minutes=10))
    await replica.look.round()
    assert await opened(database, org) == ["a is wrong"]


async def test_alerts_of_one_group_open_one_incident_at_the_end(replica: Replica, clock: MovableClock) -> None:
    database, org = replica.database, replica.org
    rules = b"\x1a\x05\x2a\x03env"  # one rule, grouped by env
    async with database.transaction(org) as tx:
        await integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "policies/p", rules, ()))
    await silenced(database, org)
    for number in range(5):
        assert (await replica.sends(f"a{number}", "prom")).outcome == SILENCED
    await clock.forward(timedelta(minutes=30))
    await replica.look.round()
    assert len(await opened(database, org)) == 1
    [incident] = await rows(database, org, "SELECT firing_count, policy FROM incidents")
    assert tuple(incident) == (5, "policies/p")


class _RolledBack(Exception):
    """Ends a transaction that is not to be committed."""


async def rows_walked(database: Database, statement: str, *parameters: object) -> int:
    """How many rows of alert_holds the scans of a statement come across; what it changes is rolled back."""
    nodes: list[dict[str, Any]] = []
    with contextlib.suppress(_RolledBack):
        async with database.system() as tx:
            [plan] = json.loads(await tx.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters))
            nodes.append(plan["Plan"])
            raise _RolledBack
    walked = 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", ())
        if node.get("Relation Name") == "alert_holds" and "Scan" in node["Node Type"]:
            walked += node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return walked


async def test_the_end_of_a_silence_walks_over_each_alert_a_few_times_however_many_there_are(
    replica: Replica, database: Database, org: str, clock: MovableClock
) -> None:
    name = await silenced(database, org, minutes=600)
    await asyncio.gather(*(replica.sends(f"k{number}") for number in range(600)))
    assert await rows_walked(database, holds.OVERDUE, 10.0) <= 2, "what is not due is not walked over"
    await expires(database, org, name)
    walked = []
    for moved in (100, 100, 100, 100, 100, 100, 0):
        walked.append(await rows_walked(database, holds.HURRY, 100))
        assert await database.run(None, lambda tx: holds.hurry(tx, 100)) == moved
    assert max(walked) <= 2 * 100
    await replica.look.round()
    assert len(await opened(database, org)) == 600


async def test_what_a_deleted_integration_left_behind_opens_on_the_fallback_policy(
    replica: Replica, clock: MovableClock
) -> None:
    database, org = replica.database, replica.org
    async with database.transaction(org) as tx:
        await integrations.insert(tx, "prom", IntegrationConfig("Prometheus", "policies/p", b"", ()))
    await silenced(database, org)
    assert (await replica.sends("a", "prom")).outcome == SILENCED
    async with database.transaction(org) as tx:
        await integrations.delete(tx, "prom")
    await clock.forward(timedelta(minutes=30))
    await replica.look.round()
    [incident] = await rows(database, org, "SELECT integration_id, policy, state FROM incidents")
    assert tuple(incident) == ("prom", "", "open")


async def test_one_alert_that_cannot_be_looked_at_does_not_keep_the_others(
    replica: Replica, clock: MovableClock
) -> None:
    database, org = replica.database, replica.org
    await silenced(database, org)
    for key in ("a", "b", "c"):
        await replica.sends(key)
    async with database.transaction(org) as tx:
        await tx.execute("UPDATE alerts SET newest = '\\xff' WHERE org_id = $1 AND dedup_key = 'b'", org)
    await clock.forward(timedelta(minutes=30))
    await replica.look.round()
    assert sorted(await opened(database, org)) == ["a is wrong", "c is wrong"]
    await clock.forward(timedelta(minutes=2))
    newest = AlertInput(summary="b is wrong").SerializeToString()
    async with database.transaction(org) as tx:
        await tx.execute("UPDATE alerts SET newest = $2 WHERE org_id = $1 AND dedup_key = 'b'", org, newest)
    await replica.look.round()
    assert len(await opened(database, org)) == 3


async def test_more_alerts_than_one_round_takes_are_all_looked_at_and_each_tenants(
    replica: Replica, clock: MovableClock
) -> None:
    other = Replica(replica.database, new_org())
    for each, number in ((replica, 450), (other, 1)):
        await silenced(each.database, each.org)
        await asyncio.gather(*(each.sends(f"k{n}") for n in range(number)))
    await clock.forward(timedelta(minutes=30))
    await asyncio.gather(replica.look.round(), other.look.round())
    assert len(await opened(replica.database, replica.org)) == 450
    assert len(await opened(other.database, other.org)) == 1


async def test_what_is_held_back_is_not_forgotten_before_its_silence_ends(
    replica: Replica, clock: MovableClock
) -> None:
    database, org = replica.database, replica.org
    await silenced(database, org, minutes=60 * 24 * 300)
    await replica.sends("a")
    await clock.forward(timedelta(days=200))
    for statement in STATEMENTS:
        async with database.system() as tx:
            await delete_old(tx, 100, statement=statement, kept=timedelta(days=90))
    await clock.forward(timedelta(days=100))
    await replica.look.round()
    assert await opened(database, org) == ["a is wrong"]
