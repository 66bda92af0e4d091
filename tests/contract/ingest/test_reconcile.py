"""Two replicas compare the same incidents with an escalation that has forgotten some."""

import asyncio

import asyncpg
import grpc
import pytest
from tocsin.ingest.v1.internal_service_pb2 import ReconcileIncidentsRequest
from tocsin_ingest.store.alerts.snapshot import _lock_key
from tocsin_kit.errors import from_rpc_error

from tests.store.ingest.support import Ingest, bearer, internal, new_org, peer, running, trigger, until

QUICK = {"reconcile_seconds": 0.05, "reconcile_grace_seconds": 0.1}


async def test_replicas_that_see_the_same_difference_open_an_incident_once(database_url: str) -> None:
    async with (
        peer() as forgetful,
        running(database_url, forgetful.target, **QUICK) as one,
        running(database_url, forgetful.target, **QUICK) as other,
    ):
        org = new_org()
        sent = [await one.alerts.SendAlert(trigger(f"k{number}"), metadata=bearer(org)) for number in range(30)]
        incidents = {each.incident for each in sent}
        await until(lambda: incidents <= forgetful.events.keys())
        forgetful.events.clear()
        await until(lambda: incidents <= forgetful.events.keys())
        await asyncio.gather(
            *(
                each.internal.ReconcileIncidents(ReconcileIncidentsRequest(), metadata=internal())
                for each in (one, other)
            )
        )
        for incident in incidents:
            [event] = forgetful.events[incident]
            assert event.opened.anew_because == "escalation did not know the incident"
        after = await other.internal.ReconcileIncidents(ReconcileIncidentsRequest(), metadata=internal())
        assert (after.compared, after.differing) == (30, 0)


async def test_an_incident_that_cannot_be_mended_now_holds_up_no_other_tenants(database_url: str) -> None:
    """Another session holds the lock of its integration, for longer than a statement waits for it."""
    async with peer() as forgetful, running(database_url, forgetful.target, **QUICK) as ingest:
        sent = {}
        for org in (new_org(), new_org()):
            sent[org] = (await ingest.alerts.SendAlert(trigger("k"), metadata=bearer(org))).incident
        await until(lambda: set(sent.values()) <= forgetful.events.keys())
        session = await asyncpg.connect(database_url, server_settings={"tocsin.org_id": "*"})
        [first, *_] = await session.fetch("SELECT org_id, integration_id FROM incidents ORDER BY group_key")
        number = _lock_key(first["org_id"], first["integration_id"])
        await session.execute("SELECT pg_advisory_lock($1)", number)
        forgetful.events.clear()
        others = sent.keys() - {first["org_id"]}
        await until(lambda: {sent[org] for org in others} <= forgetful.events.keys(), 30)
        assert sent[first["org_id"]] not in forgetful.events
        await session.close()
        await until(lambda: set(sent.values()) <= forgetful.events.keys(), 30)


async def test_an_event_on_its_way_is_no_difference(database_url: str) -> None:
    async with peer() as away, running(database_url, away.target) as ingest:
        away.unavailable = True
        org = new_org()
        await ingest.alerts.SendAlert(trigger("k"), metadata=bearer(org))
        answer = await ingest.internal.ReconcileIncidents(ReconcileIncidentsRequest(), metadata=internal())
        assert (answer.compared, answer.differing) == (1, 0)


async def test_only_operators_of_every_tenant_reconcile(ingest: Ingest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ingest.internal.ReconcileIncidents(ReconcileIncidentsRequest(), metadata=bearer(new_org()))
    assert from_rpc_error(caught.value).reason_name == "SCOPE_MISSING"
