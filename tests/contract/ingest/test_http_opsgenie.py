"""Opsgenie's Alert API, called as its senders call it."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, Alert
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import MATCH_OPERATOR_EQUAL, LabelMatcher, RoutingRule
from tocsin.type.v1.severity_pb2 import (
    SEVERITY_CRITICAL,
    SEVERITY_ERROR,
    SEVERITY_INFO,
    SEVERITY_WARNING,
)

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org, running, until

Answer = tuple[int, dict[str, Any]]


class Client:
    """Calls the API with one key."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, key: str) -> None:
        self.ingest, self.http, self.org, self.key = ingest, http, org, key

    async def post(self, path: str, body: dict[str, Any] | bytes | None = None, **headers: str) -> Answer:
        return await self.call("POST", path, body, **headers)

    async def call(self, method: str, path: str, body: dict[str, Any] | bytes | None = None, **headers: str) -> Answer:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"GenieKey {self.key}", "Content-Type": "application/json", **headers}
        async with self.http.request(
            method, f"{self.ingest.http}{path}", data=None if data is None else io.BytesIO(data), headers=headers
        ) as response:
            answered = await response.json()
            assert UUID(answered["requestId"])
            assert response.headers["X-Request-ID"] == answered["requestId"]
            assert answered["took"] >= 0
            return response.status, answered

    async def create(self, **fields: Any) -> int:
        return (await self.post("/v2/alerts", {"message": "disk full", **fields}))[0]

    async def alerts(self) -> list[Alert]:
        listed = await self.ingest.alerts.ListAlerts(ListAlertsRequest(page_size=1000), metadata=bearer(self.org))
        return list(listed.alerts)


@pytest.fixture
async def client(ingest: Ingest) -> AsyncIterator[Client]:
    org = new_org()
    _, key = await ingest.integration(org)
    async with aiohttp.ClientSession() as http:
        yield Client(ingest, http, org, key)


async def test_an_alert_is_taken_in_whole(client: Client, escalation: FakeEscalation) -> None:
    body = {
        "message": "Replica of orders is 40 minutes behind",
        "alias": "orders/replica/lag",
        "description": "It was promoted last week.",
        "responders": [{"name": "storage", "type": "team"}],
        "visibleTo": [{"name": "support", "type": "team"}],
        "actions": ["Failover"],
        "tags": ["database", "nightly"],
        "details": {"region": "eu-1", "lag": "2400"},
        "entity": "orders-db-2",
        "source": "lagwatch",
        "priority": "P1",
        "user": "cron",
        "note": "third time this month",
    }
    status, answer = await client.post("/v2/alerts", body)
    assert (status, answer["result"]) == (202, "Request will be processed")
    (alert,) = await client.alerts()
    assert (alert.summary, alert.source, alert.severity, alert.dedup_key) == (
        "Replica of orders is 40 minutes behind",
        "lagwatch",
        SEVERITY_CRITICAL,
        "orders/replica/lag",
    )
    assert alert.labels == {"region": "eu-1", "lag": "2400", "tags": "database,nightly", "entity": "orders-db-2"}
    assert set(alert.details) == {
        *("description", "details", "tags", "responders", "visibleTo", "actions", "user", "note")
    }
    await until(lambda: escalation.kinds(alert.incident) == ["opened"])


@pytest.mark.parametrize("ends", [None, {}, {"user": "ben", "source": "cli", "note": "done"}])
async def test_an_alias_is_acknowledged_and_closed(client: Client, escalation: FakeEscalation, ends: Any) -> None:
    assert await client.create(alias="a b/c") == 202
    assert await client.create(alias="a b/c") == 202
    (alert,) = await client.alerts()
    assert alert.count == 2
    for action in ("acknowledge", "close", "close"):
        status, answer = await client.post(f"/v2/alerts/a%20b%2Fc/{action}?identifierType=alias", ends)
        assert (status, answer["result"]) == (202, "Request will be processed")
    await until(lambda: escalation.kinds(alert.incident)[-1:] == ["resolved"])
    assert set(escalation.kinds(alert.incident)) == {"opened", "alerts_added", "acknowledged", "resolved"}


async def test_alertmanager_may_say_what_an_alert_says_by_now(client: Client, escalation: FakeEscalation) -> None:
    """With `update_alerts` it sends three requests a repeat. Is one refused, it never tells of the alert's end."""
    path = "/v2/alerts/2ab3%s?identifierType=alias"
    for message, description in (("[FIRING:1] disk", "db-1"), ("[FIRING:1] disk", "db-1"), ("[FIRING:2] disk", "")):
        assert await client.create(alias="2ab3", message=message) == 202
        assert (await client.call("PUT", path % "/message", {"message": message}))[0] == 202
        body = {"description": description} if description else {}
        assert (await client.call("PUT", path % "/description", body))[0] == 202
    (alert,) = await client.alerts()
    assert (alert.count, alert.summary) == (3, "[FIRING:2] disk")
    assert (await client.post(path % "/close"))[0] == 202
    await until(lambda: escalation.kinds(alert.incident)[-1] == "resolved")
    notes = [each.noted.text for each in escalation.events[alert.incident] if each.HasField("noted")]
    assert notes == ["message: [FIRING:1] disk", "description: db-1", "message: [FIRING:2] disk"]


async def test_without_an_alias_each_is_an_alert_of_its_own(client: Client) -> None:
    assert (await client.create(), await client.create()) == (202, 202)
    assert len({alert.dedup_key for alert in await client.alerts()}) == 2


@pytest.mark.parametrize(
    ("priority", "severity"),
    [
        ("P1", SEVERITY_CRITICAL),
        ("P2", SEVERITY_ERROR),
        ("P3", SEVERITY_WARNING),
        ("p4 ", SEVERITY_INFO),
        ("P5", SEVERITY_INFO),
        (None, SEVERITY_CRITICAL),
    ],
)
async def test_priorities(client: Client, priority: str | None, severity: int) -> None:
    assert await client.create(priority=priority) == 202
    assert [alert.severity for alert in await client.alerts()] == [severity]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"message": "Message can not be empty."}),
        ({"message": " \n"}, {"message": "Message can not be empty."}),
        ({"message": "m", "priority": "high"}, {"priority": "Priority must be one of P1, P2, P3, P4, P5."}),
        ({"message": "m", "priority": 1}, {"priority": "Priority must be one of P1, P2, P3, P4, P5."}),
    ],
)
async def test_what_cannot_be_processed_is_422_and_says_why(client: Client, body: Any, errors: dict[str, str]) -> None:
    status, answer = await client.post("/v2/alerts", body)
    assert (status, answer["errors"]) == (422, errors)
    assert [alert.dedup_key for alert in await client.alerts()] == ["tocsin-refused-alerts"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"message=disk"])
async def test_what_is_no_json_object_is_400(client: Client, body: bytes) -> None:
    status, answer = await client.post("/v2/alerts", body)
    assert status == 400
    assert answer["message"]


async def test_a_tiny_id_is_refused(client: Client) -> None:
    status, answer = await client.post("/v2/alerts/23/close?identifierType=tiny", {})
    assert (status, answer["errors"]) == (422, {"identifierType": "There are no tiny ids here: use alias."})


@pytest.mark.parametrize("header", ["GenieKey tik_wrong", "GenieKey", "Basic abc", ""])
async def test_a_wrong_key_is_401(client: Client, header: str) -> None:
    for path in ("/v2/alerts", "/v2/alerts/a/close"):
        status, answer = await client.post(path, {"message": "m"}, Authorization=header)
        assert (status, answer["message"]) == (401, "Could not authenticate")
    assert await client.alerts() == []


async def test_too_many_are_429_and_told_when_to_come_again(database_url: str, escalation: FakeEscalation) -> None:
    async with (
        running(database_url, escalation.target, rate_per_second=1, rate_burst=1) as ingest,
        aiohttp.ClientSession() as http,
    ):
        org = new_org()
        client = Client(ingest, http, org, (await ingest.integration(org))[1])
        url, headers = f"{ingest.http}/v2/alerts", {"Authorization": f"GenieKey {client.key}"}
        waits = []
        for number in range(20):
            async with http.post(url, json={"message": "m", "alias": f"a{number}"}, headers=headers) as response:
                assert response.status in (202, 429)
                if response.status == 429:
                    waits.append(int(response.headers["Retry-After"]))
                    assert "too many requests" in (await response.json())["message"]
        assert waits
        assert min(waits) >= 1


async def test_what_is_not_here_is_told_as_the_libraries_of_the_api_read_it(client: Client) -> None:
    for method, path in (
        *(
            ("GET", "/v2/alerts"),
            ("GET", "/v2/alerts/a"),
            ("GET", "/v2/alerts/requests/b1"),
            ("DELETE", "/v2/alerts/a"),
        ),
        *(("POST", "/v2/alerts/a/snooze"), ("PUT", "/v2/alerts/a/priority"), ("GET", "/v2/alerts/a/close")),
    ):
        status, answer = await client.call(method, path)
        assert (status, answer["message"].startswith("Tocsin takes POST /v2/alerts")) == (404, True)


async def test_tags_and_details_route(client: Client) -> None:
    rule = RoutingRule(
        matchers=[LabelMatcher(label="tags", operator=MATCH_OPERATOR_EQUAL, value="drop,me")], suppress=True
    )
    _, client.key = await client.ingest.integration(client.org, rules=[rule])
    assert await client.create(alias="dropped", tags=["drop", "me"]) == 202
    assert await client.create(alias="kept", tags=["other"]) == 202
    assert {alert.dedup_key: bool(alert.incident) for alert in await client.alerts()} == {
        "dropped": False,
        "kept": True,
    }


async def test_long_texts_are_cut_and_long_aliases_are_told_apart(client: Client) -> None:
    assert await client.create(message="m" * 5000, alias="a" * 512 + "1", description="d" * 15000) == 202
    assert await client.create(message="m" * 5000, alias="a" * 512 + "2", details={"k" * 300: "v" * 9000}) == 202
    first, second = await client.alerts()
    assert first.dedup_key != second.dedup_key
    assert {len(first.summary), len(second.summary)} == {1024}
    status, _ = await client.post(f"/v2/alerts/{'a' * 512}1/close?identifierType=alias")
    assert status == 202
    assert len([alert for alert in await client.alerts() if alert.state == ALERT_STATE_FIRING]) == 1


async def test_a_note_goes_to_the_incident_of_its_alert(client: Client, escalation: FakeEscalation) -> None:
    assert await client.create(alias="disk/db1") == 202
    path = "/v2/alerts/disk%2Fdb1/notes?identifierType=alias"
    assert (await client.post(path, {"note": "the replica is fine", "user": "cron"}))[0] == 202
    [alert] = await client.alerts()
    await until(lambda: "noted" in escalation.kinds(alert.incident))
    noted = escalation.events[alert.incident][-1].noted
    assert (noted.text, noted.actor) == ("the replica is fine", alert.integration)
    assert (alert.count, alert.state) == (1, ALERT_STATE_FIRING)
    status, answer = await client.post(path, {"note": " "})
    assert (status, answer["errors"]) == (422, {"note": "Note can not be empty."})
    # As there, a note on what is over is taken.
    assert (await client.post("/v2/alerts/other/notes?identifierType=alias", {"note": "too late"}))[0] == 202
