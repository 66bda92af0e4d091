"""Each alert that ingest accepts, escalation and notify can store, show and send.

`ALERTS=5000 make test T=tests/e2e/test_every_accepted_alert.py` is a long round.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import grpc
from google.protobuf import json_format
from tocsin.escalation.v1.incident_pb2 import INCIDENT_STATE_RESOLVED
from tocsin.escalation.v1.incident_service_pb2 import GetIncidentRequest, ListIncidentsRequest, ListTimelineRequest
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_OUTCOME_OPENED, AlertInput, Link
from tocsin.ingest.v1.alert_service_pb2 import (
    GetAlertRequest,
    ListAlertsRequest,
    SendAlertRequest,
    SendAlertResponse,
    SendAlertsRequest,
    StreamAlertsRequest,
)
from tocsin.ingest.v1.integration_service_pb2 import ListIntegrationsRequest
from tocsin.notify.v1.notification_service_pb2 import ListDeadLettersRequest, ListNotificationsRequest
from tocsin_ingest.app.alerts.alert_size import LIMIT, check_size
from tocsin_testkit.busy import within
from tocsin_testkit.tenant import Sender, Tenant
from tocsin_testkit.world import World

from tests.e2e.random_alerts import alertmanager, inputs, pagerduty, some
from tests.rounds import LONG

COUNT = int(os.environ.get("ALERTS", "60" if LONG else "24"))
WAVE = 200
PATIENCE = 60.0
REFUSED = 400


async def test_random_alerts_of_every_sender_page_everybody_and_can_be_read(world: World) -> None:
    """A tenant of its own without the `tenant` fixture: how many pages there will be is not known beforehand."""
    for first in range(0, COUNT, WAVE):
        count = min(WAVE, COUNT - first)
        tenant = world.tenant()
        sender = await set_up(tenant)
        opened = await by_rpc(tenant, some(inputs(), count))
        await by_http(sender, some(pagerduty(), count // 4), some(alertmanager(), count // 4))
        await world.idle()
        listed = (await tenant.admin.alerts.ListAlerts(ListAlertsRequest(page_size=500))).alerts
        opened |= {alert.incident for alert in listed}
        assert len(opened) > count // 4, "most of them are accepted"
        await everybody_is_paged(tenant, opened)
        await everything_can_be_read(tenant, opened)
        await nothing_is_dead(tenant)
        await everything_can_be_resolved(tenant, [alert.dedup_key for alert in listed], opened)


async def test_the_largest_alert_there_may_be_reaches_a_webhook_and_a_mailbox(world: World) -> None:
    tenant = world.tenant()
    await set_up(tenant)
    snow = "\N{SNOWMAN}"
    alert = AlertInput(summary=snow * 1024, source=snow * 255, dedup_key="k")
    for number in range(10):
        alert.links.append(Link(href=f"https://{number}" + snow * 2000, text=snow * 255 if number > 5 else ""))
    for number in range(64):
        alert.labels[f"{number:02}"] = snow * ((LIMIT - alert.ByteSize()) // 3 // (64 - number) - 4)
    check_size(alert)
    assert alert.ByteSize() > LIMIT - 2000
    answer = await tenant.admin.alerts.SendAlert(SendAlertRequest(alert=alert))
    await everybody_is_paged(tenant, {answer.incident})
    await everything_can_be_read(tenant, {answer.incident})
    page = await tenant.everybody["ana"].is_paged(answer.incident)
    shown = json.loads(page.body)["incident"]["links"]
    assert shown == [{"text": link.text, "href": link.href} for link in alert.links]
    await nothing_is_dead(tenant)


async def set_up(tenant: Tenant) -> Sender:
    """Ana has a webhook, ben a mailbox, and both are paged at once."""
    ana, ben = await tenant.person("ana"), await tenant.person("ben", email=True)
    policy = await tenant.policy([ana, ben], tenant_fallback=True)
    return await tenant.integration(policy)


async def by_rpc(tenant: Tenant, alerts: Sequence[AlertInput]) -> set[str]:
    """A third each alone, in a batch and on a stream; the incidents they opened. What is refused names its field."""
    rpc = tenant.admin.alerts
    alone, batch, stream = alerts[::3], alerts[1::3], alerts[2::3]
    answers: list[SendAlertResponse] = []
    for alert in alone:
        try:
            answers.append(await rpc.SendAlert(SendAlertRequest(alert=alert)))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise AssertionError(f"{error.details()} for {alert!r}") from error
    request = SendAlertsRequest(alerts=[SendAlertRequest(alert=alert) for alert in batch])
    results: list[Any] = list((await rpc.SendAlerts(request)).results) if batch else []

    async def requests() -> AsyncIterator[StreamAlertsRequest]:
        for alert in stream:
            yield StreamAlertsRequest(request=SendAlertRequest(alert=alert))

    results += [answer async for answer in rpc.StreamAlerts(requests())]
    assert len(results) == len(batch) + len(stream)
    for result in results:
        if result.HasField("error"):
            assert result.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], result.error.message
        else:
            answers.append(result.response)
    return {answer.incident for answer in answers if answer.outcome == ALERT_OUTCOME_OPENED}


async def by_http(sender: Sender, events: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]]) -> None:
    """Nothing is answered as our fault, which senders would repeat for ever."""
    base = sender.tenant.world.stack.services["ingest"][0].http_url
    headers = {"Authorization": f"Bearer {sender.key}", "Content-Type": "application/json"}
    bodies = [("/v2/enqueue", {"routing_key": sender.key, **event}) for event in events]
    bodies += [("/v1/alertmanager", group) for group in groups]
    async with aiohttp.ClientSession(headers=headers) as http:
        for path, body in bodies:
            data = json.dumps(body).replace("NaN", "null").replace("-Infinity", "null").replace("Infinity", "null")
            async with http.post(base + path, data=data) as response:
                answer = await response.text()
                assert response.status in (200, 202, REFUSED), f"{response.status} {answer} for {data}"


async def everybody_is_paged(tenant: Tenant, incidents: set[str]) -> None:
    for person in tenant.everybody.values():
        missing = incidents
        async with asyncio.timeout(within(PATIENCE)):
            while missing := {each for each in missing if not person.pages(each)}:
                await asyncio.sleep(0.05)


async def everything_can_be_read(tenant: Tenant, incidents: set[str]) -> None:
    """As grpcurl reads it: as JSON."""
    read: list[Any] = [
        await tenant.admin.alerts.ListAlerts(ListAlertsRequest(page_size=500)),
        await tenant.admin.incidents.ListIncidents(ListIncidentsRequest(page_size=200)),
        await tenant.admin.notifications.ListNotifications(ListNotificationsRequest(user="users/ana", page_size=200)),
    ]
    read += [await tenant.admin.alerts.GetAlert(GetAlertRequest(name=alert.name)) for alert in read[0].alerts]
    for incident in incidents:
        read.append(await tenant.admin.incidents.GetIncident(GetIncidentRequest(name=incident)))
        timeline = await tenant.admin.incidents.ListTimeline(ListTimelineRequest(incident=incident))
        assert not any("left out" in entry.message for entry in timeline.entries)
        read.append(timeline)
    for answer in read:
        json.loads(json_format.MessageToJson(answer))


async def nothing_is_dead(tenant: Tenant) -> None:
    for service in ("ingest", "escalation"):
        connection = await tenant.world.database(service)
        try:
            query = "SELECT kind, last_error FROM outbox WHERE org_id = $1 AND (dead_time IS NOT NULL OR attempts > 3)"
            assert await connection.fetch(query, tenant.org_id) == []
        finally:
            await connection.close()
    letters = await tenant.admin.notifications.ListDeadLetters(ListDeadLettersRequest())
    assert list(letters.dead_letters) == []


async def everything_can_be_resolved(tenant: Tenant, keys: Sequence[str], incidents: set[str]) -> None:
    names = ["", *(each.name for each in (await _integrations(tenant)))]
    requests = [
        SendAlertRequest(integration=name, alert=AlertInput(action=ALERT_ACTION_RESOLVE, dedup_key=key))
        for key in keys
        for name in names
    ]
    for first in range(0, len(requests), 500):
        answer = await tenant.admin.alerts.SendAlerts(SendAlertsRequest(alerts=requests[first : first + 500]))
        assert not any(result.HasField("error") for result in answer.results)
    for incident in incidents:
        async with asyncio.timeout(within(PATIENCE)):
            while (await tenant.incident(incident)).state != INCIDENT_STATE_RESOLVED:
                await asyncio.sleep(0.05)


async def _integrations(tenant: Tenant) -> Sequence[Any]:
    answer = await tenant.admin.integrations.ListIntegrations(ListIntegrationsRequest())
    return list(answer.integrations)
