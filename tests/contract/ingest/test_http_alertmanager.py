"""Alertmanager's webhook, version 4, as Alertmanager posts it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, ALERT_STATE_RESOLVED
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import RoutingRule
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL
from tocsin_ingest.http.format import Format
from tocsin_ingest.http.routes import FORMATS
from tocsin_stack.postgres import Postgres

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org, running, until

PAYLOADS = Path(__file__).parent / "payloads"


def recorded(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((PAYLOADS / f"alertmanager_{name}.json").read_text())
    return body


class Client:
    """Posts groups with one key."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, key: str) -> None:
        self.ingest, self.http, self.org, self.key = ingest, http, org, key

    async def post(self, body: Any, *, path: str = "/v1/alertmanager", **headers: str) -> tuple[int, dict[str, Any]]:
        url = f"{self.ingest.http}{path}"
        async with self.http.post(url, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def send(self, body: Any) -> tuple[int, dict[str, Any]]:
        return await self.post(body, Authorization=f"Bearer {self.key}")

    async def alerts(self) -> list[Any]:
        listed = await self.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(self.org))
        return sorted(listed.alerts, key=lambda alert: alert.source)


@pytest.fixture
async def client(ingest: Ingest) -> AsyncIterator[Client]:
    org = new_org()
    _, key = await ingest.integration(org, rules=[RoutingRule(group_by=["alertname"])])
    async with aiohttp.ClientSession() as http:
        yield Client(ingest, http, org, key)


class Asked(dict[str, Any]):
    """A body that notes which of its fields are looked at."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)


async def test_a_group_fires_repeats_and_resolves(client: Client, escalation: FakeEscalation) -> None:
    assert await client.send(recorded("firing")) == (200, {"status": "success", "accepted": 2})
    assert (await client.send(recorded("firing")))[0] == 200
    one, two = await client.alerts()
    assert (one.dedup_key, one.count, one.state) == ("1a30ba71cca2921f", 2, ALERT_STATE_FIRING)
    assert one.incident == two.incident
    assert one.summary == "Filesystem has less than 3% space left."
    assert (one.source, one.severity) == ("db-1.example.net:9100", SEVERITY_CRITICAL)
    assert one.labels["mountpoint"] == "/var/lib/postgresql"
    assert [link.text for link in one.links] == ["runbook", "source of the alert", "Alertmanager"]
    assert one.details["groupLabels"]["alertname"] == "NodeFilesystemAlmostOutOfSpace"
    assert one.client_time.ToJsonString() == "2026-03-14T03:07:11.953Z"
    assert (await client.send(recorded("resolved")))[0] == 200
    assert {alert.state for alert in await client.alerts()} == {ALERT_STATE_RESOLVED}
    await until(lambda: escalation.kinds(one.incident)[-1:] == ["resolved"])


async def test_an_alert_that_is_written_as_before_is_read_again_when_its_group_says_otherwise(client: Client) -> None:
    body = recorded("firing")
    for alert in body["alerts"]:
        del alert["status"]  # the group's counts
    await client.send(body)
    await client.send(body | {"groupKey": "another"})
    alerts = await client.alerts()
    assert {(each.count, each.details["groupKey"]) for each in alerts} == {(2, "another")}
    await client.send(body | {"status": "resolved"})
    assert {each.state for each in await client.alerts()} == {ALERT_STATE_RESOLVED}


@pytest.mark.parametrize("form", [each for each in FORMATS if each.read_with is not None], ids=lambda form: form.name)
@pytest.mark.parametrize("payload", ["alertmanager_firing", "alertmanager_resolved", "grafana_firing"])
def test_what_an_alert_is_read_with_is_all_that_its_reading_looks_at(form: Format, payload: str) -> None:
    """Otherwise one that is written alike would be taken for what it was beside something else."""
    body = Asked(json.loads((PAYLOADS / f"{payload}.json").read_text()))
    for alert in dict.__getitem__(body, "alerts"):
        form.item(alert, body, "alerts[0]")
        form.item({name: value for name, value in alert.items() if name != "status"}, body, "alerts[0]")
    assert body.names <= set(form.read_with or ())


async def test_the_key_may_be_in_the_path(client: Client) -> None:
    status, _ = await client.post(recorded("firing"), path=f"/v1/alertmanager/{client.key}")
    assert status == 200


async def test_one_bad_alert_does_not_lose_the_others(client: Client) -> None:
    body = recorded("firing")
    body["alerts"][0] = {"status": "firing"}
    body["alerts"] += ["text", {"status": "odd", "fingerprint": "f"}, {"status": "firing", "fingerprint": "f" * 300}]
    status, answer = await client.send(body)
    assert (status, answer["status"], answer["accepted"]) == (400, "partial", 2)
    assert [(each["alert"], each["reason"]) for each in answer["errors"]] == [
        (f"alerts[{index}]", "INVALID_FIELD") for index in (0, 2, 3)
    ]
    alerts = {alert.source: alert for alert in await client.alerts()}
    assert set(alerts) == {"db-2.example.net:9100", "", "Tocsin"}
    assert alerts[""].dedup_key.startswith("sha256:")
    assert alerts["Tocsin"].summary.startswith("3 alerts were refused: alerts[0]: has neither a fingerprint nor labels")


async def test_a_sparse_alert_still_says_something(client: Client) -> None:
    body = {"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": "Down", "instance": "db1"}}]}
    assert (await client.send(body))[0] == 200
    (alert,) = await client.alerts()
    assert (alert.summary, alert.severity) == ("Down on db1", SEVERITY_CRITICAL)


async def test_more_labels_than_the_contract_takes_lose_no_page(client: Client) -> None:
    labels = {f"label{number}": "v" * 2000 for number in range(100)} | {"n" * 300: "x"}
    body = {"version": "4", "alerts": [{"status": "firing", "fingerprint": "f", "labels": labels}]}
    assert (await client.send(body))[0] == 200
    (alert,) = await client.alerts()
    assert len(alert.labels) == 64


async def test_truncated_alerts_are_noted(client: Client) -> None:
    body = recorded("firing") | {"truncatedAlerts": 7}
    assert (await client.send(body))[1]["truncated_alerts"] == 7
    assert (await client.alerts())[0].details["truncatedAlerts"] == 7


@pytest.mark.parametrize("alerts", [{}, None, "alerts", 5, {"alerts": []}])
async def test_a_body_without_a_list_of_alerts_is_refused_by_field(client: Client, alerts: Any) -> None:
    status, answer = await client.send(recorded("firing") | {"alerts": alerts})
    assert status == 400
    assert [each["field"] for each in answer["error"]["fields"]] == ["alerts"]


@pytest.mark.parametrize("version", ["1", "3", "5", 4, None, [], "x" * 1000])
async def test_other_versions_are_tried(client: Client, version: Any) -> None:
    assert (await client.send(recorded("firing") | {"version": version}))[0] == 200


async def test_who_may_not_send_learns_nothing(client: Client) -> None:
    status, answer = await client.post({})
    assert (status, answer["error"]["reason"]) == (401, "CREDENTIAL_MISSING")
    for wrong in ("tik_nobody", "no-key-at-all"):
        status, answer = await client.post({}, Authorization=f"Bearer {wrong}")
        assert (status, answer["error"]["reason"]) == (401, "CREDENTIAL_INVALID")


async def test_who_sends_a_token_is_told_that_a_key_is_wanted(client: Client) -> None:
    _, answer = await client.post({}, Authorization="Bearer a.token.of-somebody")
    assert "only integration keys are taken here, which begin with tik_" in answer["error"]["message"]
    _, answer = await client.post({}, Authorization="Bearer tik_nobody")
    assert "integration keys" not in answer["error"]["message"]


async def test_any_content_type_is_read_as_json(client: Client) -> None:
    url, headers = f"{client.ingest.http}/v1/alertmanager", {"Authorization": f"Bearer {client.key}"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"):
        data = json.dumps(recorded("firing")).encode()
        async with client.http.post(url, data=data, headers=headers | {"Content-Type": kind}) as response:
            assert response.status == 200


async def test_a_lost_database_is_5xx_so_that_alertmanager_comes_again(
    postgres: Postgres, database_url: str, escalation: FakeEscalation
) -> None:
    async with running(database_url, escalation.target) as ingest, aiohttp.ClientSession() as http:
        org = new_org()
        _, key = await ingest.integration(org)
        client = Client(ingest, http, org, key)
        assert (await client.send(recorded("firing")))[0] == 200
        await postgres.drop_database(database_url.rpartition("/")[2])
        status, answer = await client.send(recorded("firing"))
        assert status >= 500, answer
