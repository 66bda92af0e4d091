"""A heartbeat that stops pages a user, and its return resolves the incident: by gRPC and by HTTP, from outside."""

import aiohttp
from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import incident_pb2
from tocsin.ingest.v1.alert_service_pb2 import SendHeartbeatRequest
from tocsin_testkit.clients import Clients
from tocsin_testkit.tenant import Sender, Tenant


async def test_a_heartbeat_that_stops_pages_and_its_return_resolves(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    policy = await tenant.policy([ana], minutes=600)
    every_ten_minutes = Duration(seconds=600)
    by_grpc, by_http = [await tenant.integration(policy, heartbeat_interval=every_ten_minutes) for _ in range(2)]
    for _ in range(2):
        assert (await beats(by_grpc), await posts(by_http)) == (False, False)
        await tenant.passes(minutes=9)
    assert tenant.unexpected() == []
    await tenant.passes(minutes=2)
    missing = await tenant.incidents_titled("no heartbeat from prometheus for 10 minutes")
    assert len(missing) == 2
    for incident in missing:
        await ana.is_paged(incident)
    await tenant.passes(minutes=30)
    assert (await beats(by_grpc), await posts(by_http)) == (True, True)
    for incident in missing:
        await ana.is_told(incident, "resolution")
        assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_RESOLVED
    assert (await beats(by_grpc), await posts(by_http)) == (False, False)


async def beats(sender: Sender) -> bool:
    """By gRPC; whether heartbeats were missing until now."""
    alerts = Clients(sender.tenant.world.channels, sender.key).alerts
    return bool((await alerts.SendHeartbeat(SendHeartbeatRequest())).returned)


async def posts(sender: Sender) -> bool:
    """By HTTP, as `curl` in a crontab does."""
    url = sender.tenant.world.stack.services["ingest"][0].http_url
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/heartbeat/{sender.key}") as response:
        answer = await response.json()
        assert response.status == 200, answer
        return bool(answer["returned"])
