"""CloudEvents 1.0 in its three modes; the event is the one of the specification's own examples."""

import json
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_RESOLVE,
    ALERT_ACTION_TRIGGER,
    ALERT_STATE_FIRING,
    ALERT_STATE_RESOLVED,
)
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import AlertMapping, CreateIntegrationRequest, Integration
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR

from tests.store.ingest.support import Ingest, bearer, new_org

PATH = "/v1/cloudevents"


def event(**fields: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/sensors/tn-1234567",
        "type": "com.example.someevent",
        "subject": "cooling",
        "time": "2026-04-05T17:31:00Z",
        "datacontenttype": "application/json",
        "data": {"summary": "too hot", "severity": "error"},
    } | fields


class Client:
    """Posts with the key of an integration."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, key: str) -> None:
        self.ingest, self.http, self.org, self.key = ingest, http, org, key

    async def post(self, body: bytes, kind: str, **headers: str) -> tuple[int, dict[str, Any]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named |= {"Authorization": f"Bearer {self.key}", "Content-Type": kind}
        async with self.http.post(f"{self.ingest.http}{PATH}", data=body, headers=named) as response:
            return response.status, await response.json()

    async def structured(
        self, given: Any, kind: str = "application/cloudevents+json; charset=utf-8"
    ) -> tuple[int, Any]:
        return await self.post(json.dumps(given).encode(), kind)

    async def batch(self, *given: Any) -> tuple[int, Any]:
        return await self.post(json.dumps(given).encode(), "application/cloudevents-batch+json")

    async def binary(self, given: dict[str, Any], data: bytes, kind: str = "application/json") -> tuple[int, Any]:
        attributes = {f"ce_{name}": value for name, value in given.items() if name not in ("data", "datacontenttype")}
        return await self.post(data, kind, **attributes)

    async def alerts(self) -> list[Any]:
        listed = await self.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(self.org))
        return [each for each in listed.alerts if each.source != "Tocsin"]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def client(ingest: Ingest, http: aiohttp.ClientSession) -> Client:
    org = new_org()
    return Client(ingest, http, org, (await ingest.integration(org))[1])


async def test_each_mode_gives_the_same_alert(client: Client) -> None:
    one = event()
    assert await client.structured(one) == (200, {"status": "success", "accepted": 1})
    assert (await client.structured(event(), "application/json"))[0] == 200
    assert (await client.batch(event(), event()))[0] == 200
    assert (await client.binary(event(), json.dumps(one["data"]).encode()))[0] == 200
    encoded = b64encode(json.dumps(one["data"]).encode()).decode()
    assert (await client.structured({**event(), "data": None, "data_base64": encoded}))[0] == 200
    [alert] = await client.alerts()
    assert (alert.count, alert.summary, alert.severity) == (6, "too hot", SEVERITY_ERROR)
    assert alert.dedup_key == "/sensors/tn-1234567/com.example.someevent/cooling"
    assert dict(alert.labels) == {
        "type": "com.example.someevent",
        "source": "/sensors/tn-1234567",
        "subject": "cooling",
    }
    assert alert.client_time.ToJsonString() == "2026-04-05T17:31:00Z"
    assert alert.details["data"]["summary"] == "too hot"


async def test_an_event_counts_once_however_often_and_in_any_mode_it_comes(client: Client) -> None:
    one = event()
    for _ in range(2):
        assert (await client.structured(one))[0] == 200
        assert (await client.batch(one, one))[0] == 200
    [alert] = await client.alerts()
    assert alert.count == 1
    # An event is known by its source and its id together.
    assert (await client.structured({**one, "source": "/sensors/tn-7654321"}))[0] == 200
    assert len(await client.alerts()) == 2


async def test_a_late_copy_does_not_open_again_what_was_resolved(client: Client) -> None:
    fires, over = event(), event(data={"summary": "cool again", "action": "resolve"})
    for each, state in ((fires, ALERT_STATE_FIRING), (over, ALERT_STATE_RESOLVED), (fires, ALERT_STATE_RESOLVED)):
        assert (await client.structured(each))[0] == 200
        assert [alert.state for alert in await client.alerts()] == [state]


async def test_an_event_goes_to_each_integration_that_it_is_sent_to(client: Client) -> None:
    one = event()
    other = Client(client.ingest, client.http, client.org, (await client.ingest.integration(client.org))[1])
    assert ((await client.structured(one))[0], (await other.structured(one))[0]) == (200, 200)
    assert len(await client.alerts()) == 2


async def test_a_mapping_reads_attributes_and_data(client: Client) -> None:
    mapping = AlertMapping(
        dedup_key="subject",
        summary="join(': ', [type, data.reason])",
        severity="priority",
        severities={"1": SEVERITY_CRITICAL},
        action="type",
        actions={"com.example.failed": ALERT_ACTION_TRIGGER, "com.example.recovered": ALERT_ACTION_RESOLVE},
    )
    wanted = CreateIntegrationRequest(integration=Integration(display_name="mapped", mapping=mapping))
    made = await client.ingest.integrations.CreateIntegration(wanted, metadata=bearer(client.org))
    client.key = made.key
    failed = event(type="com.example.failed", priority="1", data={"reason": "no answer"})
    assert (await client.binary(failed, b'{"reason": "no answer"}'))[0] == 200
    [alert] = await client.alerts()
    assert (alert.dedup_key, alert.summary) == ("cooling", "com.example.failed: no answer")
    assert alert.severity == SEVERITY_CRITICAL
    assert (await client.structured(event(type="com.example.recovered", data={"reason": ""})))[0] == 200
    assert [each.state for each in await client.alerts()] == [ALERT_STATE_RESOLVED]


async def test_data_of_any_kind_is_taken(client: Client) -> None:
    for number, (data, kind) in enumerate(
        (
            *((b"plain words", "text/plain"), (b"\xff\x00", "image/png"), (b"", "text/xml")),
            *((b"\xff\x00", "application/octet-stream"), (b"{", "application/octet-stream")),
        )
    ):
        assert (await client.binary(event(subject=f"s{number}"), data, kind))[0] == 200
    assert (await client.structured(event(subject="none", data=None)))[0] == 200
    assert (await client.structured(event(subject="text", data="words")))[0] == 200
    # As the CloudEvents SDK writes bytes of which it is told no type.
    bare = event(subject="bytes", data_base64="AAFi")
    for name in ("data", "datacontenttype"):
        bare.pop(name, None)
    assert (await client.structured(bare))[0] == 200
    assert {each.summary for each in await client.alerts()} == {"com.example.someevent from /sensors/tn-1234567"}
    assert len(await client.alerts()) == 8


async def test_header_values_are_decoded(client: Client) -> None:
    """As the binding says: what is no printable ASCII is escaped with `%`."""
    assert (await client.binary(event(subject="K%C3%BChlung%20%E2%82%AC"), b"{}"))[0] == 200
    [alert] = await client.alerts()
    assert alert.labels["subject"] == "K\u00fchlung \u20ac"
    # Quotes around a value are HTTP's, and are taken off first.
    assert (await client.binary(event(subject='"a \\\\ \\"b%22"'), b"{}"))[0] == 200
    assert 'a \\ "b"' in {each.labels["subject"] for each in await client.alerts()}


async def test_an_id_that_comes_with_another_content_is_another_event(client: Client) -> None:
    """Some senders put the id of their alert there: its end must not be lost to its begin."""
    assert (await client.structured(event(id="disk-1")))[0] == 200
    assert (await client.structured(event(id="disk-1", data={"action": "resolve"})))[0] == 200
    assert [alert.state for alert in await client.alerts()] == [ALERT_STATE_RESOLVED]


@pytest.mark.parametrize("name", ["id", "source", "specversion", "type"])
@pytest.mark.parametrize("value", [None, "", 7])
async def test_an_attribute_that_must_be_there_is_named(client: Client, name: str, value: Any) -> None:
    status, answer = await client.batch(event(), event(**{name: value}))
    assert (status, answer["accepted"]) == (400, 1)
    assert answer["errors"][0]["message"].startswith(f"[1].{name}: must be a text")


async def test_what_is_no_event_is_refused_with_its_place(client: Client) -> None:
    for given, told in (
        (event(specversion="0.3"), "event.specversion: must be 1.0; is '0.3'"),
        (event(data_base64="!"), "event.data_base64: is not base64"),
        (event(data_base64=b64encode(b"{").decode()), "event.data_base64: is not JSON"),
        (event(data={"action": "wobbles"}), "event: mapping.action gives 'wobbles'"),
    ):
        status, answer = await client.structured(given)
        assert (status, answer["errors"][0]["message"].startswith(told)) == (400, True), answer
    status, answer = await client.batch(7)
    assert (status, answer["errors"][0]["message"]) == (400, "[0]: must be an object with the attributes of an event")
    for body in (b"{", b"{}}", b'{"a": 1} x'):
        status, answer = await client.binary(event(), body)
        assert (status, answer["error"]["fields"][0]["field"]) == (400, "data"), answer


async def test_a_sender_that_asks_first_is_welcome(client: Client) -> None:
    """The handshake of the CloudEvents web hooks, as Azure's Event Grid makes it before its first event."""
    url = f"{client.ingest.http}{PATH}/{client.key}"
    asked = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}
    async with client.http.options(url, headers=asked) as answer:
        assert answer.status == 200
        assert answer.headers["WebHook-Allowed-Origin"] == "eventemitter.example.com"
        assert answer.headers["WebHook-Allowed-Rate"] == "*"
        assert "POST" in answer.headers["Allow"]
    async with client.http.options(url) as answer:
        assert (answer.status, (await answer.json())["error"]["fields"][0]["field"]) == (400, "WebHook-Request-Origin")
    assert await client.alerts() == []
