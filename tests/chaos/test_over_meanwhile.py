"""What was over before escalation heard of it wakes no one."""

import asyncio

import pytest
from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1.incident_service_pb2 import ListIncidentsRequest
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet, eventually

pytestmark = pytest.mark.chaos

_ALL_TRIED = """
SELECT bool_and(attempts > $2) FROM (SELECT max(attempts) AS attempts FROM outbox WHERE org_id = $1 GROUP BY ordering_key) AS first
"""


async def test_what_is_over_when_escalation_is_back_pages_no_one_and_what_is_not_pages(
    fleet: Fleet, tenant: Tenant
) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    replicas = fleet.replicas("escalation")
    await asyncio.gather(*(each.stop() for each in replicas))
    over = [await prom.triggers(f"blip {number}", dedup_key=f"blip {number}") for number in range(5)]
    lasting = await prom.triggers("db down", dedup_key="db")
    for number in range(5):
        await prom.resolves(f"blip {number}")
    # An attempt that began before the resolution may still go on, and tells what was true when it began.
    database = await fleet.database("ingest")
    tried = await database.fetchval("SELECT max(attempts) FROM outbox WHERE org_id = $1", tenant.org_id)
    await database.close()
    await fleet.until("ingest", _ALL_TRIED, tenant.org_id, tried + 1)
    await asyncio.gather(*(each.start() for each in replicas))
    await ana.is_paged(lasting)

    async def are_over() -> bool:
        answer = await tenant.admin.incidents.ListIncidents(ListIncidentsRequest())
        resolved = incident_pb2.INCIDENT_STATE_RESOLVED
        return {each.name for each in answer.incidents if each.state == resolved} == set(over)

    await eventually(are_over, "the others are told as resolved")
    await fleet.idle()
    assert [page for each in over for page in ana.pages(each)] == []
    kinds = [entry.kind for entry in await tenant.timeline(over[0])]
    assert incident_pb2.TIMELINE_KIND_OPENED in kinds
    assert incident_pb2.TIMELINE_KIND_RESOLVED in kinds
