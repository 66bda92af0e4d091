"""PagerDuty Events API v2, posted as its clients post it."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL

from tests.pagerduty_client import posting
from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org, running, until

PAYLOADS = Path(__file__).parent / "payloads"


class Client:
    """Posts events with one routing key."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, key: str) -> None:
        self.ingest, self.http, self.org, self.key = ingest, http, org, key

    async def post(self, body: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        if isinstance(body, dict):
            options["json"] = {"routing_key": self.key, **body}
        else:
            options["data"] = io.BytesIO(body)
            options.setdefault("headers", {"Content-Type": "application/json"})
        async with self.http.post(f"{self.ingest.http}/v2/enqueue", **options) as response:
            return response.status, await response.json()

    async def event(self, action: str = "trigger", **fields: Any) -> tuple[int, dict[str, Any]]:
        payload = {"summary": "disk full", "source": "db1", "severity": "error"} | fields.pop("payload", {})
        return await self.post({"event_action": action, "payload": payload, **fields})


@pytest.fixture
async def client(ingest: Ingest) -> AsyncIterator[Client]:
    org = new_org()
    _, key = await ingest.integration(org)
    async with aiohttp.ClientSession() as http:
        yield Client(ingest, http, org, key)


async def test_the_documented_event_is_taken_in_whole(client: Client, escalation: FakeEscalation) -> None:
    body = json.loads((PAYLOADS / "pagerduty_trigger.json").read_text())
    status, answer = await client.post(body | {"routing_key": client.key})
    assert (status, answer) == (
        202,
        {"status": "success", "message": "Event processed", "dedup_key": "samplekeyhere"},
    )
    listed = await client.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(client.org))
    (alert,) = listed.alerts
    assert (alert.summary, alert.source, alert.severity, alert.dedup_key) == (
        "DISK at 99% on machine prod-datapipe03.example.com",
        "prod-datapipe03.example.com",
        SEVERITY_CRITICAL,
        "samplekeyhere",
    )
    assert alert.labels == {"component": "mysql", "group": "prod-datapipe", "class": "disk"}
    assert dict(alert.details.items()) == {"free space": "1%", "ping time": "1500ms", "load avg": 0.75}
    assert [(link.href, link.text) for link in alert.links] == [
        ("https://monitoring.example.com", "Sample Monitoring Service"),
        ("https://example.com/", "Link text"),
        ("https://runbooks.example.com/disk", "Runbook"),
        ("https://www.example.com/images/graph.png", "Example text"),
    ]
    assert alert.client_time.ToJsonString() == "2015-07-17T08:42:58.315Z"
    await until(lambda: escalation.kinds(alert.incident) == ["opened"])


async def test_trigger_acknowledge_resolve(client: Client, escalation: FakeEscalation) -> None:
    await client.event(dedup_key="k")
    assert (await client.post({"event_action": "acknowledge", "dedup_key": "k"}))[0] == 202
    assert (await client.post({"event_action": "resolve", "dedup_key": "k"}))[0] == 202
    assert (await client.post({"event_action": "resolve", "dedup_key": "k"}))[0] == 202
    listed = await client.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(client.org))
    await until(lambda: escalation.kinds(listed.alerts[0].incident) == ["opened", "acknowledged", "resolved"])


async def test_an_event_without_a_key_is_a_new_alert_and_its_key_is_answered(client: Client) -> None:
    first, second = (await client.event())[1], (await client.event())[1]
    assert first["dedup_key"]
    assert first["dedup_key"] != second["dedup_key"]
    assert (await client.post({"event_action": "resolve", "dedup_key": first["dedup_key"]}))[0] == 202


async def test_the_key_may_come_in_the_header(client: Client) -> None:
    body = {"routing_key": "", "event_action": "resolve", "dedup_key": "k"}
    status, _ = await client.post(body, headers={"X-Routing-Key": client.key})
    assert status == 202


async def test_text_for_people_is_cut_and_odd_details_are_kept(client: Client) -> None:
    deep: Any = "deep"
    for _ in range(40):
        deep = {"in": deep}
    details = {"deep": deep, "big": 10**30, "list": [1, None, True, {"a": "b"}], "nul": "a\0b", "half": "\ud800"}
    status, answer = await client.event(payload={"summary": "x" * 5000, "source": "s" * 500, "custom_details": details})
    assert (status, answer["status"]) == (202, "success")
    status, _ = await client.event(payload={"custom_details": {"huge": "y" * 100_000}})
    assert status == 202
    status, _ = await client.event(dedup_key="nul\0key", payload={"summary": "nul\0"})
    assert status == 202
    listed = await client.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(client.org))
    nul, huge, cut = listed.alerts
    assert (len(cut.summary), cut.summary[-1], len(cut.source)) == (1024, "…", 255)
    assert cut.details["big"] == str(10**30)
    assert "the details had 100" in str(huge.details["dropped"])
    assert nul.dedup_key == "nul\ufffdkey"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"event_action": None}, "'event_action' is missing or blank"),
        ({"event_action": "close"}, "'event_action' is invalid; must be one of trigger, acknowledge, resolve"),
        ({"payload": None}, "'payload' is missing or blank"),
        ({"payload": {"source": "s", "severity": "info"}}, "'payload.summary' is missing or blank"),
        ({"payload": {"summary": " ", "source": "s", "severity": "info"}}, "'payload.summary' is missing or blank"),
        (
            {"event_action": "resolve", "dedup_key": ""},
            "'dedup_key' is missing or blank; it is required to acknowledge or resolve",
        ),
        ({"routing_key": None}, "'routing_key' is missing or blank"),
        ({"routing_key": 5}, "'routing_key' is missing or blank"),
        (
            {"routing_key": "tik_nobody"},
            "'routing_key' is not a key of an integration, or was rotated; create or rotate one to get a new key",
        ),
        (
            {"routing_key": "e93facc04764012d7bfb002500d5d1a6"},
            "'routing_key' is not a key of an integration, or was rotated; create or rotate one to get a new key",
        ),
    ],
)
async def test_an_invalid_event_is_400_with_every_error(client: Client, change: dict[str, Any], error: str) -> None:
    good = {"event_action": "trigger", "payload": {"summary": "s", "source": "s", "severity": "info"}}
    status, answer = await client.post(good | change)
    assert status == 400
    assert (answer["status"], answer["message"]) == ("invalid event", "Event object is invalid")
    assert answer["errors"] == [error]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"a=b&c=d", "application/x-www-form-urlencoded", 400),
    ],
)
async def test_what_is_no_event_is_refused_in_clear_words(client: Client, body: bytes, kind: str, status: int) -> None:
    given, answer = await client.post(body, headers={"Content-Type": kind})
    assert given == status
    assert answer["status"] == "invalid event"
    assert len(answer["errors"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"event_action": "trigger", "payload": {"summary": "say "^no""}, "routing_key": "KEY"}',
        '{"event_action": "trigger", "payload": {"summary": "s"}, "routing_key": ^KEY}',
        '{"payload": {"summary": "s"}, "routing_key": "KEY", "event_action": ^trigger}',
        '{"payload": {"summary": "s"}, ^}',
    ],
)
async def test_what_is_missing_where_the_body_cannot_be_read_is_told_by_its_place(client: Client, body: str) -> None:
    """`^`: where it ends to be JSON."""
    before, after = body.replace("KEY", client.key).split("^")
    status, answer = await client.post((before + after).encode())
    assert (status, answer["status"]) == (400, "invalid event")
    [error] = answer["errors"]
    assert error.startswith("'body' is not JSON: ")
    assert error.endswith(f" at character {len(before)}")


async def test_an_image_is_kept_with_what_it_leads_to(client: Client) -> None:
    images = [{"src": "https://g.example.com/1.png", "href": "https://g.example.com/", "alt": "graph"}]
    images.append({"src": "https://g.example.com/2.png"})
    assert (await client.event(images=images))[0] == 202
    old: dict[str, Any] = {"service_key": client.key, "event_type": "trigger", "description": "s"}
    old["contexts"] = [{"type": "image", **images[0]}, {"type": "link", "href": "https://l.example.com/", "text": "L"}]
    async with client.http.post(f"{client.ingest.http}/generic/2010-04-15/create_event.json", json=old) as response:
        assert response.status == 200
    listed = await client.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(client.org))
    first = [("https://g.example.com/1.png", "graph"), ("https://g.example.com/", "graph")]
    assert [[(link.href, link.text) for link in alert.links] for alert in listed.alerts] == [
        [*first, ("https://l.example.com/", "L")],
        [*first, ("https://g.example.com/2.png", "image")],
    ]


async def test_an_event_of_the_first_version_is_told_what_is_wrong_with_its_own_key(client: Client) -> None:
    url = f"{client.ingest.http}/generic/2010-04-15/create_event.json"
    for key in ({}, {"service_key": "tik_nobody"}):
        async with client.http.post(url, json={"event_type": "trigger", "description": "s", **key}) as response:
            assert response.status == 400
            [error] = (await response.json())["errors"]
            assert error.startswith("'service_key' ")


async def test_too_fast_is_429_with_a_time(database_url: str, escalation: FakeEscalation) -> None:
    async with (
        running(database_url, escalation.target, rate_per_second=0.1, rate_burst=2) as ingest,
        aiohttp.ClientSession() as http,
    ):
        org = new_org()
        _, key = await ingest.integration(org)
        client = Client(ingest, http, org, key)
        assert [(await client.event())[0] for _ in range(3)] == [202, 202, 429]
        body = {"routing_key": key, "event_action": "resolve", "dedup_key": "k"}
        async with http.post(f"{ingest.http}/v2/enqueue", json=body) as response:
            assert int(response.headers["Retry-After"]) >= 5
            assert (await response.json())["status"] == "throttle exceeded"


async def test_their_own_client_waits_where_it_is_too_fast_and_each_of_its_events_counts_once(
    database_url: str, escalation: FakeEscalation, tmp_path: Path
) -> None:
    async with running(database_url, escalation.target, rate_per_second=5, rate_burst=2) as ingest:
        org = new_org()
        _, key = await ingest.integration(org)
        async with posting(tmp_path, ingest.http.removeprefix("http://"), key) as [client]:
            for number in range(8):
                assert await client("trigger", "disk full", "db1", dedup_key=f"disk-{number}") == f"disk-{number}"
        assert set(client.answers) == {202, 429}
        assert client.answers.count(202) == 8
        listed = await ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(org))
        assert sorted((each.dedup_key, each.count) for each in listed.alerts) == [(f"disk-{n}", 1) for n in range(8)]


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00", "soon"])
async def test_a_time_that_is_none_does_not_stop_a_page(client: Client, time: str) -> None:
    status, _ = await client.event(payload={"timestamp": time})
    assert status == 202


async def test_what_is_too_large_is_taken_with_a_note_of_what_was_left_out(client: Client) -> None:
    details = {"list": [1] * 9900, "text": "x" * 25_000}
    status, answer = await client.event(dedup_key="large", payload={"custom_details": details})
    assert (status, answer["dedup_key"]) == (202, "large")
    (alert,) = (await client.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(client.org))).alerts
    assert "left out: details" in str(alert.details["left_out"])


async def test_a_change_is_noted_on_what_is_open(client: Client, escalation: FakeEscalation) -> None:
    """With the body of PagerDuty's documentation."""
    change: dict[str, Any] = {
        "routing_key": client.key,
        "payload": {
            "summary": "Build Success - Increase snapshot create timeout to 30 seconds",
            "timestamp": "2020-07-17T08:42:58.315+0000",
            "source": "acme-build-pipeline-tool-default-i-9999",
            "custom_details": {"build_state": "passed", "build_number": "2"},
        },
        "links": [{"href": "https://acme.pagerduty.dev/build/2", "text": "View more details in Acme!"}],
    }

    async def post(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        async with client.http.post(f"{client.ingest.http}/v2/change/enqueue", json=body) as response:
            return response.status, await response.json()

    taken = (202, {"status": "success", "message": "Change event processed"})
    assert await post(change) == taken  # nothing is open
    for key in ("a", "b", "over"):
        assert (await client.event(dedup_key=key))[0] == 202
    assert (await client.event("resolve", dedup_key="over"))[0] == 202
    for _ in range(2):
        assert await post(change) == taken
    listed = await client.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(client.org))
    assert (await client.event("resolve", dedup_key="a"))[0] == 202
    kinds = {alert.dedup_key: alert.incident for alert in listed.alerts}
    await until(lambda: escalation.kinds(kinds["a"])[-1:] == ["resolved"] and "noted" in escalation.kinds(kinds["b"]))
    # Once, though it was sent again.
    assert [escalation.kinds(kinds[key]).count("noted") for key in ("a", "b", "over")] == [1, 1, 0]
    told = next(event.noted for event in escalation.events[kinds["b"]] if event.HasField("noted"))
    assert told.text == (
        "change: Build Success - Increase snapshot create timeout to 30 seconds in acme-build-pipeline-tool-default-i-9999 "
        "at 2020-07-17T08:42:58.315+0000 https://acme.pagerduty.dev/build/2"
    )
    for wrong, field in (({}, "payload"), ({"payload": {"summary": " "}}, "payload.summary")):
        status, answer = await post({"routing_key": client.key, **wrong})
        assert (status, answer["errors"]) == (400, [f"'{field}' is missing or blank"])
    assert (await post(change | {"routing_key": "tik_no"}))[0] == 400
