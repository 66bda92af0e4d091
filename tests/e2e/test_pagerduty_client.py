"""PagerDuty's own client posts to a whole Tocsin: whom it pages, what people see of it, and what it is told of what is wrong."""

from pathlib import Path
from typing import Any, Final

import pagerduty
import pytest
from tocsin.escalation.v1 import incident_pb2
from tocsin.ingest.v1 import alert_pb2, alert_service_pb2
from tocsin_testkit.tenant import Tenant

from tests.pagerduty_client import Client, posting

NOW: Final = "2026-11-30T12:00:00Z"  # given, as version 7.2.0 of the client raises AttributeError where it makes one
IMAGES: Final = [("https://www.example.com/disk.png", "the last hour")]
DISK: Final = {
    "custom_details": {"free": "1 %", "since": {"hours": 2}},
    "images": [{"src": "https://www.example.com/disk.png", "alt": "the last hour"}],
    "links": [{"href": "https://wiki.example.com/disk", "text": "what to do"}],
}


async def test_its_events_page_acknowledge_note_and_resolve(tenant: Tenant, tmp_path: Path) -> None:
    [ana] = await tenant.people("ana")
    sender = await tenant.integration(await tenant.policy([ana]))
    address = tenant.world.stack.services["ingest"][0].http_address
    async with posting(tmp_path, address, sender.key) as [client]:
        for _ in range(2):
            assert await client("trigger", "disk full on db-9", "db-9", "disk", "error", **DISK) == "disk"
        [incident] = await tenant.incidents_titled("disk full on db-9")
        await ana.is_paged(incident)

        await client("submit", "deployed web 1.2.3", source="ci", timestamp=NOW)
        assert await client("acknowledge", "disk") == "disk"
        await ana.is_told(incident, "acknowledgment")
        assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
        await client("submit", "rolled web 1.2.3 back", source="ci", timestamp=NOW)
        assert await client("resolve", "disk") == "disk"
        await ana.is_told(incident, "resolution")
        # Without a key of its own it is told one.
        made = await client("trigger", "and another thing", "db-9", severity="info")
        assert client.answers == [202] * 7

    told = [each.message for each in await tenant.timeline(incident)]
    for change in ("deployed web 1.2.3", "rolled web 1.2.3 back"):
        assert len([each for each in told if change in each]) == 1
    [another] = await tenant.incidents_titled("and another thing")
    await ana.is_paged(another)

    listed = await tenant.admin.alerts.ListAlerts(alert_service_pb2.ListAlertsRequest())
    held = {each.dedup_key: each for each in listed.alerts}
    assert held.keys() == {"disk", made}
    disk = held["disk"]
    assert (disk.count, disk.state) == (2, alert_pb2.ALERT_STATE_RESOLVED)
    assert (disk.incident, disk.summary, disk.source) == (incident, "disk full on db-9", "db-9")
    assert dict(disk.details["since"]) == {"hours": 2.0}
    assert [(each.href, each.text) for each in disk.links] == [("https://wiki.example.com/disk", "what to do"), *IMAGES]


async def test_it_is_told_what_is_wrong_and_nothing_is_held_of_that(tenant: Tenant, tmp_path: Path) -> None:
    sender = await tenant.integration()
    address = tenant.world.stack.services["ingest"][0].http_address
    async with posting(tmp_path, address, sender.key, "0123456789abcdef0123456789abcdef") as [client, stranger]:
        unknown = "is not a key of an integration, or was rotated; create or rotate one to get a new key"
        assert await refused(stranger, "trigger", "disk full", "db-9") == [f"'routing_key' {unknown}"]
        assert await refused(client, "trigger", "", "db-9") == ["'payload.summary' is missing or blank"]
        assert await refused(client, "send_event", "trigger", payload="disk full") == ["'payload' is missing or blank"]
        assert await refused(client, "send_change_event", {"summary": ""}) == ["'payload.summary' is missing or blank"]
        assert (stranger.answers, client.answers) == ([400], [400] * 3), "it repeats none of them"
    listed = await tenant.admin.alerts.ListAlerts(alert_service_pb2.ListAlertsRequest())
    # What was refused of a known sender is an alert of Tocsin's own, so that its owner hears of it.
    assert [(each.integration, each.source) for each in listed.alerts] == [(sender.name, "Tocsin")]


async def refused(client: Client, method: str, *given: Any, **fields: Any) -> list[str]:
    """What it is told is wrong."""
    with pytest.raises(pagerduty.HttpError) as raised:
        await client(method, *given, **fields)
    response = raised.value.response
    assert response is not None
    told = response.json()
    assert (told["status"], told["message"]) == ("invalid event", "Event object is invalid")
    return list(told["errors"])
