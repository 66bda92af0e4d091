"""Grafana's webhook, as its contact point posts it: rules that fire and end, rules without data, and rules that fail."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, ALERT_STATE_RESOLVED
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.type.v1.severity_pb2 import SEVERITY_WARNING

from tests.store.ingest.support import Ingest, bearer, new_org

RECORDED = (Path(__file__).parent / "payloads" / "grafana_firing.json").read_text()
PATH = "/v1/grafana"
CPU, NO_DATA, FAILED = "bc97ff14869b13e3", "0d6a3b4c5e7f8091", "1e7b4c5d6f809102"


class Client:
    """Posts groups with one key."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, key: str) -> None:
        self.ingest, self.http, self.org, self.key = ingest, http, org, key

    async def post(self, body: Any, path: str = PATH, authorization: str | None = None) -> int:
        sent = f"Bearer {self.key}" if authorization is None else authorization
        headers = {"Authorization": sent} if sent else {}
        async with self.http.post(f"{self.ingest.http}{path}", json=body, headers=headers) as response:
            return response.status

    async def alerts(self) -> dict[str, Any]:
        listed = await self.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(self.org))
        return {each.dedup_key: each for each in listed.alerts}


@pytest.fixture
async def client(ingest: Ingest) -> AsyncIterator[Client]:
    org = new_org()
    _, key = await ingest.integration(org)
    async with aiohttp.ClientSession() as http:
        yield Client(ingest, http, org, key)


@pytest.mark.parametrize("path", [PATH, "/v1/alertmanager"])
async def test_a_group_fires_repeats_and_ends_alert_by_alert(client: Client, path: str) -> None:
    body = json.loads(RECORDED)
    for _ in range(2):
        assert await client.post(body, path) == 200
    alerts = await client.alerts()
    assert {key: (each.state, each.count) for key, each in alerts.items()} == dict.fromkeys(
        (CPU, NO_DATA, FAILED), (ALERT_STATE_FIRING, 2)
    )
    assert len({each.incident for each in alerts.values()}) == 3
    # The group's own status is still "firing" while some of its alerts fire.
    body["alerts"][0] |= {"status": "resolved", "endsAt": "2026-10-12T10:00:00.157076+02:00", "values": None}
    assert await client.post(body, path) == 200
    states = {key: each.state for key, each in (await client.alerts()).items()}
    assert states == {CPU: ALERT_STATE_RESOLVED, NO_DATA: ALERT_STATE_FIRING, FAILED: ALERT_STATE_FIRING}


async def test_what_the_person_on_call_needs_is_kept(client: Client) -> None:
    assert await client.post(json.loads(RECORDED)) == 200
    alert = (await client.alerts())[CPU]
    assert (alert.summary, alert.source, alert.severity) == ("CPU of web-1 is over 90 %", "web-1", SEVERITY_WARNING)
    assert [link.text for link in alert.links] == [
        *("runbook", "source of the alert", "dashboard", "panel", "silence", "image", "Grafana")
    ]
    assert dict(alert.details["values"]) == {"B": 95.5, "C": 1}
    assert alert.details["valueString"].startswith("[ var='B' labels={instance=web-1} value=95.5 ]")
    assert alert.details["groupLabels"]["grafana_folder"] == "Production"


async def test_a_rule_without_data_and_one_that_fails_say_so_and_not_what_the_rule_says(client: Client) -> None:
    assert await client.post(json.loads(RECORDED)) == 200
    alerts = await client.alerts()
    assert alerts[NO_DATA].summary == "no data for the rule Queue length"
    assert alerts[FAILED].summary == (
        "the rule Disk usage cannot be evaluated: failed to execute query A: dial tcp 192.0.2.7:9090: connect: "
        "connection refused"
    )
    assert alerts[FAILED].details["annotations"]["summary"] == "the disk is [no value] % full"
    body = json.loads(RECORDED)
    del body["alerts"][2]["annotations"]["Error"], body["alerts"][1]["labels"]["rulename"]
    assert await client.post(body) == 200
    alerts = await client.alerts()
    assert alerts[FAILED].summary == "the rule Disk usage cannot be evaluated: its data source has failed"
    assert alerts[NO_DATA].summary == "the queue has [no value] messages"


async def test_the_key_comes_as_a_contact_point_can_send_it(client: Client) -> None:
    body = json.loads(RECORDED)
    basic = "Basic " + b64encode(f"tocsin:{client.key}".encode()).decode()
    assert await client.post(body, authorization=basic) == 200
    assert await client.post(body, f"{PATH}/{client.key}", "") == 200
    assert await client.post(body, authorization="") == 401
