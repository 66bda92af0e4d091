"""One call for every incident that a filter finds; a dry run says which these would be."""

import uuid
from typing import Any

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import incident_pb2 as ip
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1 import policy_service_pb2
from tocsin_testkit.tenant import Tenant


async def change(tenant: Tenant, **fields: Any) -> tuple[set[str], bool]:
    """The names of the incidents, and whether there are more."""
    answer = await tenant.admin.incidents.BulkChangeIncidents(pb.BulkChangeIncidentsRequest(**fields))
    assert all(result.HasField("incident") for result in answer.results)
    return {result.name for result in answer.results}, answer.more


async def test_a_storm_is_acknowledged_snoozed_and_resolved_by_filter(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    silent: Any = {"minutes": 60, "status_updates": policy_service_pb2.STATUS_UPDATES_NONE}
    storm = await tenant.integration(await tenant.policy([ana], name="storm", **silent))
    calm = await tenant.integration(await tenant.policy([ana], name="calm", **silent))
    many = {await storm.triggers(f"db-{number} down") for number in range(3)}
    other = await calm.triggers("disk nearly full")
    for incident in (*many, other):
        await ana.is_paged(incident)
    policy = pb.ListIncidentsRequest(policy="policies/storm")
    acknowledge: Any = {"filter": policy, "action": pb.BULK_ACTION_ACKNOWLEDGE}
    assert await change(tenant, dry_run=True, **acknowledge) == (many, False)
    states = {(await tenant.incident(name)).state for name in many}
    assert states == {ip.INCIDENT_STATE_TRIGGERED}, "a dry run changes nothing"

    first, more = await change(tenant, max_incidents=2, **acknowledge)
    assert (len(first), more) == (2, True)
    rest, more = await change(tenant, max_incidents=2, **acknowledge)
    assert (first | rest, more) == (many, False), "calling again goes on"
    assert await change(tenant, **acknowledge) == (set(), False), "what is so already is left out"
    assert (await tenant.incident(other)).state == ip.INCIDENT_STATE_TRIGGERED

    words = pb.ListIncidentsRequest(query="db-1 DOWN")
    hour = Duration(seconds=3600)
    [snoozed], _ = await change(tenant, filter=words, action=pb.BULK_ACTION_SNOOZE, snooze_duration=hour)
    assert (await tenant.incident(snoozed)).state == ip.INCIDENT_STATE_SNOOZED

    resolve: Any = {"filter": policy, "action": pb.BULK_ACTION_RESOLVE, "request_id": str(uuid.uuid4())}
    assert await change(tenant, **resolve) == (many, False)
    assert {(await tenant.incident(name)).state for name in many} == {ip.INCIDENT_STATE_RESOLVED}
    late = await storm.triggers("db-9 down")
    await ana.is_paged(late)
    assert await change(tenant, **resolve) == (many, False), "a repeat gets its first answer"
    assert (await tenant.incident(late)).state == ip.INCIDENT_STATE_TRIGGERED, "and does nothing anew"


async def test_another_tenants_incidents_are_not_found(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    incident = await (await tenant.integration(await tenant.policy([ana]))).triggers("db down")
    await ana.is_paged(incident)
    states = pb.ListIncidentsRequest(states=[ip.INCIDENT_STATE_TRIGGERED])
    request = pb.BulkChangeIncidentsRequest(filter=states, action=pb.BULK_ACTION_ACKNOWLEDGE)
    answer = await tenant.world.clients(f"{tenant.org_id}-other").incidents.BulkChangeIncidents(request)
    assert not answer.results
    assert (await tenant.incident(incident)).state == ip.INCIDENT_STATE_TRIGGERED
