"""An incident whose sender has fallen silent does not stay open for ever."""

import aiohttp
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


async def test_an_alert_that_prometheus_does_not_send_again_is_over(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prometheus = await tenant.integration(await tenant.policy([ana], minutes=600))
    url = f"{tenant.world.stack.services['ingest'][0].http_url}/api/v2/alerts"
    alert = {"labels": {"alertname": "InstanceDown", "instance": "db-1"}, "annotations": {"summary": "db-1 is down"}}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {prometheus.key}"}) as http:
        for _ in range(3):
            async with http.post(url, json=[alert]) as response:
                assert response.status == 200
            await tenant.passes(minutes=4)
    [incident] = await tenant.incidents_titled("db-1 is down")
    await ana.is_paged(incident)
    assert (await tenant.incident(incident)).state != incident_pb2.INCIDENT_STATE_RESOLVED
    await tenant.passes(minutes=2)
    await ana.is_told(incident, "resolution")
    [resolved] = [e for e in await tenant.timeline(incident) if e.kind == incident_pb2.TIMELINE_KIND_RESOLVED]
    assert resolved.message == (
        "resolved by services/ingest because it was not sent again for 5 minutes, and its sender had named no end"
    )
