"""An incident whose sender has fallen silent does not stay open for ever."""

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import incident_pb2
from tocsin_testkit.tenant import Tenant


async def test_an_incident_of_which_nothing_is_heard_any_more_is_resolved_and_says_why(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    policy = await tenant.policy([ana, ben], minutes=600)
    prom = await tenant.integration(policy, auto_resolve_after=Duration(seconds=6 * 3600))
    incident = await prom.triggers("disk full", dedup_key="disk")
    await ana.is_paged(incident, level=1)
    await ben.is_paged(incident, level=1)
    await ana.acknowledges(incident)
    await ben.is_told(incident, "acknowledgment")
    await tenant.passes(minutes=5 * 60)
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
    await tenant.passes(minutes=61)
    await ana.is_told(incident, "resolution")
    await ben.is_told(incident, "resolution")
    [resolved] = [e for e in await tenant.timeline(incident) if e.kind == incident_pb2.TIMELINE_KIND_RESOLVED]
    assert resolved.message == "resolved by services/ingest because no alert of it has come for 6 hours"
