"""One service's database is restored from a backup of minutes ago, and the others' are not."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from tocsin.escalation.v1 import incident_pb2, incident_service_pb2
from tocsin.escalation.v1.internal_service_pb2 import ReconcilePagesRequest
from tocsin.escalation.v1.internal_service_pb2_grpc import EscalationInternalServiceStub
from tocsin.ingest.v1.internal_service_pb2 import IncidentDifference, ReconcileIncidentsRequest
from tocsin.ingest.v1.internal_service_pb2_grpc import IngestInternalServiceStub
from tocsin_testkit.busy import within
from tocsin_testkit.inbox import PATIENCE
from tocsin_testkit.tenant import Tenant

RESOLVED = incident_pb2.INCIDENT_STATE_RESOLVED
OPENED = incident_pb2.TIMELINE_KIND_OPENED


@asynccontextmanager
async def rows_of(tenant: Tenant, service: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await tenant.world.database(service)
    try:
        yield connection
    finally:
        await connection.close()


async def forgets(tenant: Tenant, service: str) -> None:
    """The service's database is as it was before any incident of this tenant."""
    tables = {"escalation": ("escalations",), "ingest": ("alerts", "incidents")}[service]
    async with rows_of(tenant, service) as connection:
        for table in (*tables, "outbox"):
            await connection.execute(f"DELETE FROM {table} WHERE org_id = $1", tenant.org_id)


async def reconcile(tenant: Tenant, *, dry_run: bool = False) -> Any:
    """The operator's call."""
    stub = IngestInternalServiceStub(tenant.world.channels.by_service["ingest"])
    token = tenant.world.token("*", ["internal"], subject="users/operator")
    request = ReconcileIncidentsRequest(dry_run=dry_run)
    return await stub.ReconcileIncidents(request, metadata=(("authorization", f"Bearer {token}"),), timeout=30)


async def reconcile_pages(tenant: Tenant) -> Any:
    """The operator's call about pages. It mends."""
    stub = EscalationInternalServiceStub(tenant.world.channels.by_service["escalation"])
    token = tenant.world.token("*", ["internal"], subject="users/operator")
    return await stub.ReconcilePages(
        ReconcilePagesRequest(), metadata=(("authorization", f"Bearer {token}"),), timeout=30
    )


def about(answer: Any, incident: str) -> list[str]:
    return [
        IncidentDifference.Name(each.difference).removeprefix("INCIDENT_DIFFERENCE_")
        for each in answer.incidents
        if each.incident == incident
    ]


async def becomes(tenant: Tenant, incident: str, state: incident_pb2.IncidentState.ValueType) -> None:
    async with asyncio.timeout(within(PATIENCE)):
        while (await tenant.incident(incident)).state != state:
            await asyncio.sleep(0.05)


async def messages(tenant: Tenant, incident: str) -> list[str]:
    return [entry.message for entry in await tenant.timeline(incident)]


async def test_what_notify_forgot_was_acknowledged_is_not_sent(tenant: Tenant) -> None:
    """Its backup holds a page that waits, and not that its incident was acknowledged since. The page of another one goes."""
    [ana, ben] = await tenant.people("ana", "ben")
    first = await tenant.integration(await tenant.policy([ana]))
    second = await tenant.integration(await tenant.policy([ben]))
    answered, open_ = await first.triggers("db down"), await second.triggers("shop down")
    await ana.is_paged(answered)
    await ben.is_paged(open_)
    await ana.acknowledges(answered)
    await tenant.world.idle()
    async with rows_of(tenant, "notify") as connection:
        await connection.execute("DELETE FROM cancel_fences WHERE org_id = $1", tenant.org_id)
        await connection.execute(
            """UPDATE notifications SET state = 'pending', send_time = NULL, due_time = app_now(),
                 create_time = app_now() - interval '5 minutes'
               WHERE org_id = $1
                 AND page_id IN (SELECT id FROM pages WHERE org_id = $1 AND type IN ('new_incident', 'escalation'))""",
            tenant.org_id,
        )
    await ben.is_paged(open_)
    async with rows_of(tenant, "notify") as connection, asyncio.timeout(within(PATIENCE)):
        waiting = "SELECT count(*) FROM notifications WHERE org_id = $1 AND state NOT IN ('sent', 'cancelled')"
        while await connection.fetchval(waiting, tenant.org_id):
            await asyncio.sleep(0.05)
    assert (len(ana.pages(answered)), len(ben.pages(open_))) == (1, 2)


async def test_a_page_that_notify_forgot_is_sent_once_all_the_same(tenant: Tenant) -> None:
    """Its backup holds no page of the last minutes. One of them waited for its user's rule, which is for three minutes later."""
    ana = await tenant.person("ana")
    await ana.wants(("high", ana.methods[0], 3))
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    incident = await prom.triggers("db down")
    waiting = "SELECT count(*) FROM notifications WHERE org_id = $1 AND state = 'pending'"
    async with (
        rows_of(tenant, "notify") as there,
        rows_of(tenant, "escalation") as here,
        asyncio.timeout(within(PATIENCE)),
    ):
        while await there.fetchval(waiting, tenant.org_id) != 1:
            await asyncio.sleep(0.05)
        # The copy that goes by RPC a second later was taken as well.
        while await here.fetchval("SELECT count(*) FROM outbox WHERE org_id = $1", tenant.org_id):
            await asyncio.sleep(0.05)
        await there.execute("DELETE FROM pages WHERE org_id = $1", tenant.org_id)
        # A restore ends all sessions, and so what replicas remember of them.
        await there.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"""
        )
        while await there.fetchval(waiting, tenant.org_id) != 1:
            await asyncio.sleep(0.05)
    said = "the page of users/ana is handed to notify again, which did not know it any more"
    assert (await messages(tenant, incident)).count(said) == 1
    answer = await reconcile_pages(tenant)
    assert [each for each in answer.pages if each.incident == incident] == []
    await tenant.passes(minutes=3)
    await ana.is_paged(incident)
    await tenant.world.idle()
    assert len(ana.pages(incident)) == 1


@pytest.mark.parametrize("acknowledged", [False, True])
async def test_what_escalation_forgot_pages_again_by_itself(tenant: Tenant, acknowledged: bool) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db", labels={"team": "db"})
    await ana.is_paged(incident)
    if acknowledged:
        await ana.acknowledges(incident)
    await tenant.world.idle()
    await forgets(tenant, "escalation")
    await ana.is_paged(incident)
    entries = await tenant.timeline(incident)
    assert entries[0].kind == OPENED
    assert entries[0].message == "opened anew because escalation did not know the incident: db down"
    again = await tenant.incident(incident)
    assert dict(again.labels) == {"team": "db"}
    await ana.acknowledges(incident)
    assert (await prom.resolves("db")).incident_resolved
    await ana.is_told(incident, "resolution")
    assert (await tenant.incident(incident)).state == RESOLVED


async def test_an_incident_whose_acknowledge_escalation_forgot_reaches_the_next_level(tenant: Tenant) -> None:
    """Notify has not forgotten it, and stores the pages of that level as stopped."""
    [ana, ben] = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=5))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    await tenant.world.idle()
    async with rows_of(tenant, "escalation") as connection:
        kept = {}
        for table in ("escalations", "timers"):
            kept[table] = await connection.fetchval(
                f"SELECT to_jsonb(r) FROM {table} r WHERE org_id = $1", tenant.org_id
            )
        await ana.acknowledges(incident)
        await tenant.world.idle()
        columns = ", ".join(json.loads(kept["escalations"]))
        restored = f"(SELECT {columns} FROM jsonb_populate_record(NULL::escalations, $2))"
        await connection.execute(
            f"UPDATE escalations SET ({columns}) = {restored} WHERE org_id = $1", tenant.org_id, kept["escalations"]
        )
        await connection.execute("DELETE FROM timers WHERE org_id = $1", tenant.org_id)
        await connection.execute(
            "INSERT INTO timers SELECT (jsonb_populate_record(NULL::timers, $1)).*", kept["timers"]
        )
    await tenant.passes(minutes=5)
    await ben.is_paged(incident)
    assert "paged again: its pages were stopped by an answer that was lost with the last changes of the database" in (
        await messages(tenant, incident)
    )


async def test_an_alert_of_an_incident_that_escalation_forgot_opens_it_at_once(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await tenant.world.idle()
    await forgets(tenant, "escalation")
    await prom.sends("db still down", dedup_key="db", severity=1)
    await ana.is_paged(incident)
    await tenant.world.idle()
    assert len([message for message in await messages(tenant, incident) if "opened anew" in message]) == 1


async def test_a_resolve_of_what_escalation_forgot_pages_no_user(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await tenant.world.idle()
    async with rows_of(tenant, "escalation") as connection:
        await connection.execute("DELETE FROM escalations WHERE org_id = $1", tenant.org_id)
        await prom.resolves("db")
    assert await tenant.incidents_titled("db down") == [incident]
    await becomes(tenant, incident, RESOLVED)
    assert len([message for message in await messages(tenant, incident) if "opened anew" in message]) == 1


async def test_what_ingest_forgot_is_closed_and_the_next_alert_pages(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await tenant.world.idle()
    await forgets(tenant, "ingest")
    await becomes(tenant, incident, RESOLVED)
    await ana.is_told(incident, "resolution")
    assert (
        "resolved by services/ingest because ingest does not know the incident any more; what still fires opens a new one"
        in await messages(tenant, incident)
    )
    second = await prom.triggers("db down", dedup_key="db")
    assert second != incident
    await ana.is_paged(second)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_person_can_end_what_ingest_forgot(tenant: Tenant, batch: bool) -> None:
    """Without waiting for the comparison to notice it, and in either order."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await tenant.world.idle()
    await forgets(tenant, "ingest")
    await ana.acknowledges(incident)
    for _ in range(2):
        if batch:
            request = incident_service_pb2.BatchResolveIncidentsRequest(names=[incident])
            [result] = (await ana.own.incidents.BatchResolveIncidents(request)).results
            assert not result.HasField("error"), result
        else:
            await ana.own.incidents.ResolveIncident(incident_service_pb2.ResolveIncidentRequest(name=incident))
        assert (await tenant.incident(incident)).state == RESOLVED


async def test_an_operator_sees_what_differs_before_it_is_mended(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await tenant.world.idle()
    assert about(await reconcile(tenant), incident) == []
    await forgets(tenant, "escalation")
    assert about(await reconcile(tenant, dry_run=True), incident) == ["NOT_ESCALATED"]
    answer = await reconcile(tenant)
    assert about(answer, incident) == ["NOT_ESCALATED"]
    assert all(each.mended for each in answer.incidents if each.incident == incident)
    await ana.is_paged(incident)
    await tenant.world.idle()
    assert about(await reconcile(tenant), incident) == []


async def before_the_resolve(tenant: Tenant) -> None:
    """Ingest's only incident of the tenant is as it was before it was resolved, and its alert too."""
    await tenant.world.idle()
    async with rows_of(tenant, "ingest") as connection, connection.transaction():
        await connection.execute(
            """UPDATE incidents SET state = 'open', firing_count = 1, event_sequence = 1, resolve_time = NULL,
              resolved_by = NULL WHERE org_id = $1""",
            tenant.org_id,
        )
        # When it was received for the last time, a resolve counts as well.
        await connection.execute(
            """UPDATE alerts SET state = 'firing', resolve_time = NULL, last_receive_time = create_time
               WHERE org_id = $1""",
            tenant.org_id,
        )


async def test_a_trigger_that_joined_what_was_over_pages_all_the_same(tenant: Tenant) -> None:
    """It came before the two were compared, and its sender sends it once."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await prom.resolves("db")
    await ana.is_told(incident, "resolution")
    await before_the_resolve(tenant)
    await prom.sends("db down once more", dedup_key="db")
    [second] = await tenant.incidents_titled("db down once more")
    await ana.is_paged(second)


async def test_what_ingest_holds_open_and_escalation_has_closed_is_closed(tenant: Tenant) -> None:
    """Without more, the next firing would join it and page no one."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await prom.resolves("db")
    await ana.is_told(incident, "resolution")
    await before_the_resolve(tenant)
    assert about(await reconcile(tenant), incident) == ["RESOLVED_IN_ESCALATION"]
    second = await prom.triggers("db down", dedup_key="db")
    assert second != incident
    await ana.is_paged(second)


async def test_events_that_one_side_lost_are_made_up_for(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db slow", dedup_key="db", severity=2)
    await ana.is_paged(incident)
    await prom.sends("db down", dedup_key="db", severity=1)
    await tenant.world.passes(seconds=2)
    async with rows_of(tenant, "escalation") as connection:
        lost = "UPDATE escalations SET last_sequence = 1, severity = 2, alert_count = 1 WHERE org_id = $1"
        await connection.execute(lost, tenant.org_id)
    assert about(await reconcile(tenant), incident) == ["BEHIND"]
    await tenant.world.idle()
    async with asyncio.timeout(within(PATIENCE)):
        while (await tenant.incident(incident)).severity != 1:
            await asyncio.sleep(0.05)

    async with rows_of(tenant, "ingest") as connection:
        await connection.execute("UPDATE incidents SET event_sequence = 1 WHERE org_id = $1", tenant.org_id)
    assert about(await reconcile(tenant), incident) == ["AHEAD"]
    await tenant.world.idle()
    await prom.resolves("db")
    await becomes(tenant, incident, RESOLVED)
    await ana.is_told(incident, "resolution")


async def test_a_resolve_that_escalation_never_heard_of_closes_it(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    incident = await prom.triggers("db down", dedup_key="db")
    await ana.is_paged(incident)
    await prom.sends("db down", dedup_key="db")
    await tenant.world.passes(seconds=2)
    async with rows_of(tenant, "ingest") as connection:
        # Its number is one that escalation has seen from before ingest was restored, so that it is taken for a repeat.
        await connection.execute("UPDATE incidents SET event_sequence = 1 WHERE org_id = $1", tenant.org_id)
        await prom.resolves("db")
    await becomes(tenant, incident, RESOLVED)
    await ana.is_told(incident, "resolution")
