"""Alertmanager's API, version 2, as Prometheus 2.42 posts to it. What ends do later: tests/store/ingest/test_endings.py."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, ALERT_STATE_RESOLVED
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org, until

RECORDED = (Path(__file__).parent / "payloads" / "prometheus_firing.json").read_text()
PATH = "/api/v2/alerts"
ZERO = "0001-01-01T00:00:00Z"


class Client:
    """Posts alerts with one key. Times are those of the database."""

    def __init__(self, ingest: Ingest, http: aiohttp.ClientSession, org: str, key: str, now: datetime) -> None:
        self.ingest, self.http, self.org, self.key, self.now = ingest, http, org, key, now

    def at(self, minutes: float) -> str:
        """RFC 3339, as Prometheus writes it."""
        return (self.now + timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def recorded(self, ends: float, starts: float = -30.0) -> Any:
        """The recorded alerts with other times, in minutes from now."""
        return [{**each, "startsAt": self.at(starts), "endsAt": self.at(ends)} for each in json.loads(RECORDED)]

    async def post(self, body: Any, *, path: str = PATH, authorization: str | None = None) -> tuple[int, str]:
        sent = f"Bearer {self.key}" if authorization is None else authorization
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": sent, "Content-Type": "application/json"} if sent else {}
        async with self.http.post(f"{self.ingest.http}{path}", data=data, headers=headers) as response:
            return response.status, await response.text()

    async def alerts(self) -> list[Any]:
        listed = await self.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(self.org))
        return sorted((each for each in listed.alerts if each.source != "Tocsin"), key=lambda each: each.source)

    async def endings(self) -> list[float]:
        """How many minutes after now the ends are that are kept."""
        async with self.ingest.database.transaction(self.org) as tx:
            rows = await tx.fetch("SELECT end_time FROM alert_endings WHERE org_id = $1 ORDER BY end_time", self.org)
        return [(row["end_time"] - self.now) / timedelta(minutes=1) for row in rows]


@pytest.fixture
async def client(ingest: Ingest) -> AsyncIterator[Client]:
    org = new_org()
    _, key = await ingest.integration(org)
    now = await ingest.database.run(None, lambda tx: tx.now())
    async with aiohttp.ClientSession() as http:
        yield Client(ingest, http, org, key, now)


async def test_what_prometheus_posts_fires_repeats_and_resolves(client: Client, escalation: FakeEscalation) -> None:
    assert await client.post(client.recorded(ends=240)) == (200, "")
    assert await client.post(client.recorded(ends=241)) == (200, "")
    flaps, down = await client.alerts()
    assert (down.state, down.count, down.severity) == (ALERT_STATE_FIRING, 2, SEVERITY_CRITICAL)
    assert down.summary == "db-1.example.net:9100 of job node is down"
    assert down.source == "db-1.example.net:9100"
    assert [link.text for link in down.links] == ["runbook", "source of the alert"]
    assert flaps.labels["cluster"] == "eu-1"
    assert (await client.post(client.recorded(ends=-1)))[0] == 200
    assert {each.state for each in await client.alerts()} == {ALERT_STATE_RESOLVED}
    incidents = (flaps.incident, down.incident)
    await until(lambda: all(escalation.kinds(each)[-1:] == ["resolved"] for each in incidents), 30.0)
    # Prometheus repeats that for a quarter of an hour.
    assert (await client.post(client.recorded(ends=-1)))[0] == 200
    assert len(await client.alerts()) == 2


async def test_the_end_that_is_kept_is_the_later_one_and_five_minutes_without(client: Client) -> None:
    labels = {"alertname": "A"}
    for ends, kept in ((60, 60), (90, 90), (70, 90)):
        assert (await client.post([{"labels": labels, "endsAt": client.at(ends)}]))[0] == 200
        assert await client.endings() == [pytest.approx(kept, abs=0.01)]
    for number, unset in enumerate((None, "", ZERO)):
        assert (await client.post([{"labels": {"alertname": f"B{number}"}, "endsAt": unset}]))[0] == 200
    waited = (await client.endings())[:3]
    assert all(5 <= each < 50 for each in waited), "five minutes from when they came"


async def test_an_alert_is_known_by_its_labels_and_not_by_its_text(client: Client) -> None:
    one = {"labels": {"alertname": "A", "instance": "i1"}, "annotations": {"summary": "same"}}
    two = {"labels": {"alertname": "A", "instance": "i2"}, "annotations": {"summary": "same"}}
    again = {"labels": {"instance": "i1", "alertname": "A", "empty": ""}, "annotations": {"summary": "other"}}
    assert (await client.post([one, two, again]))[0] == 200
    alerts = await client.alerts()
    assert [(each.source, each.count) for each in alerts] == [("i1", 2), ("i2", 1)]
    assert len({each.incident for each in alerts}) == 2


async def test_alertmanager_s_webhook_names_the_same_alert(client: Client) -> None:
    """Both may send while one is moved to the other. The fingerprint is Alertmanager's own of these labels."""
    labels = {"name": "garland, briggs", "fear": "love is not enough"}
    assert (await client.post([{"labels": labels}]))[0] == 200
    group = {"version": "4", "alerts": [{"status": "firing", "labels": labels, "fingerprint": "507a62d79ee76c9a"}]}
    assert (await client.post(group, path="/v1/alertmanager"))[0] == 200
    [alert] = await client.alerts()
    assert alert.count == 2


async def test_labels_too_large_to_be_hashed_on_the_way_still_tell_alerts_apart(client: Client) -> None:
    many = [{"labels": {"alertname": "A", "long": "x" * 20_000 + end}} for end in ("a", "b", "a")]
    assert (await client.post(many))[0] == 200
    assert sorted(each.count for each in await client.alerts()) == [1, 2]


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


async def test_the_key_comes_as_prometheus_can_send_it(client: Client) -> None:
    body, key = client.recorded(ends=60), client.key
    for authorization in (f"Bearer {key}", basic("tocsin", key), basic(key, "")):
        assert (await client.post(body, authorization=authorization))[0] == 200, authorization
    for path in (f"/v1/alertmanager/{key}{PATH}", f"/v1/alertmanager/{key}{PATH}/"):
        assert (await client.post(body, path=path, authorization=""))[0] == 200, path
    for wrong in ("", "Basic", "Basic !", basic("tocsin", "tik_no"), basic("", ""), "Digest x", "Bearer tik_no"):
        status, answer = await client.post(body, authorization=wrong)
        assert (status, json.loads(answer)["code"]) == (401, 401), wrong


async def test_one_bad_alert_does_not_lose_the_others(client: Client) -> None:
    good = client.recorded(ends=60)
    bad = [
        {"annotations": {}},
        {"labels": {"empty": ""}},
        "text",
        {"labels": {"a": "b"}, "endsAt": "soon"},
        {"labels": {"a": "b"}, "startsAt": client.at(1), "endsAt": client.at(0)},
    ]
    status, answer = await client.post([good[0], *bad, good[1]])
    assert status == 400
    assert json.loads(answer).split("; ") == [
        "[1].labels: at least one label pair required",
        "[2].labels: at least one label pair required",
        "[3]: must be an object",
        "[4].endsAt: must be a time as in RFC 3339, and is 'soon'",
        "[5].endsAt: start time must be before end time",
    ]
    assert len(await client.alerts()) == 2


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "is not JSON"),
        (b"{}", "must be a JSON list"),
        (b"7", "must be a JSON list"),
        (b"[", "is not JSON"),
        (b"[7", "is not JSON"),
        (b"[{]", "is not JSON"),
    ],
)
async def test_a_body_that_is_no_list_is_refused(client: Client, body: bytes, told: str) -> None:
    status, answer = await client.post(body)
    assert (status, told in answer) == (400, True), answer


async def test_a_list_that_ends_too_soon_is_taken_as_far_as_it_can_be_read(client: Client) -> None:
    whole = json.dumps(client.recorded(ends=60)).encode()
    status, answer = await client.post(whole[:-20])
    assert (status, "is not JSON" in answer) == (400, True)
    assert len(await client.alerts()) == 1


async def test_an_empty_list_is_nothing(client: Client) -> None:
    assert await client.post([]) == (200, "")
