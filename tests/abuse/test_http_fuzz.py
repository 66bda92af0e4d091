"""Every HTTP route with odd methods, headers and bodies: each gets an answer that is no defect, and the process stays as it was."""

import asyncio
import json
import os
import random
import time
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]
from tocsin_ingest.http.routes import FORMATS
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

SECONDS = float(os.environ.get("ABUSE_SECONDS", "0"))
SEED = os.environ.get("ABUSE_SEED", "1")
ROUNDS = 15
AT_ONCE = 16
TRIES = 5
MOST_GROWTH = 100 << 20
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1e308, 10**40, "", "\0", "x" * 5000, "\ud800", "2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z"),
    *([], {}, [[[[]]]], {"": None}, {"a": {"a": {"a": []}}}, ["firing"] * 50),
)
BODIES: tuple[Any, ...] = (
    {
        "version": "4",
        "status": "firing",
        "groupLabels": {"a": "b"},
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "a", "severity": "critical"},
                "annotations": {"summary": "s"},
                "startsAt": "2026-01-01T00:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://x",
                "fingerprint": "f",
            }
        ],
    },
    {
        "routing_key": "k",
        "event_action": "trigger",
        "dedup_key": "d",
        "payload": {
            "summary": "s",
            "source": "x",
            "severity": "critical",
            "timestamp": "2026-01-01T00:00:00Z",
            "custom_details": {"a": 1},
        },
        "links": [{"href": "http://x", "text": "t"}],
        "images": [],
    },
    {"service_key": "k", "event_type": "trigger", "incident_key": "i", "description": "d", "details": {"a": "b"}},
    {
        "message": "m",
        "alias": "a",
        "priority": "P1",
        "tags": ["t"],
        "details": {"a": "b"},
        "responders": [{"name": "n", "type": "team"}],
        "entity": "e",
        "source": "s",
        "note": "n",
    },
    [
        {
            "labels": {"alertname": "a", "severity": "critical"},
            "annotations": {"summary": "s"},
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "9026-01-01T00:00:00Z",
            "generatorURL": "http://x",
        }
    ],
    {
        "summary": "s",
        "dedup_key": "k",
        "severity": "error",
        "action": "trigger",
        "labels": {"a": "b"},
        "links": ["http://x", {"href": "http://y", "text": "t"}],
        "details": {"a": [1]},
    },
    {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "subject": "s",
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "data": {"summary": "s"},
        "data_base64": "e30=",
    },
    {
        "heartbeat": {"monitorID": 1, "status": 0, "msg": "m"},
        "monitor": {"id": 1, "name": "n", "url": "http://x"},
        "msg": "m",
    },
    {
        "action": "triggered",
        "data": {
            "event": {"issue_id": "1", "title": "t", "level": "error", "tags": [["a", "b"]], "web_url": "http://x"},
            "metric_alert": {"id": "1", "alert_rule": {"name": "n"}},
            "issue": {"id": "1"},
            "triggered_rule": "r",
        },
    },
    {
        "Type": "Notification",
        "MessageId": "m",
        "TopicArn": "t",
        "Message": '{"AlarmName": "a", "NewStateValue": "ALARM"}',
        "SignatureVersion": "2",
        "Signature": "e30=",
        "SigningCertURL": "https://sns.example.com/SimpleNotificationService-1.pem",
    },
    {"title": "t", "key": "k", "transition": "Triggered", "type": "error", "priority": "P1", "link": "http://x"},
)


def routes() -> list[str]:
    """From the table that the service serves, what operators find, and one that is not there."""
    paths = {path for form in FORMATS for path in form.paths}
    return sorted(
        {path.replace("{key}", "tik_x").replace("{identifier}", "a") for path in paths}
        | {"/metrics", "/healthz", "/readyz", "/", "/nothing"}
    )


def spoiled(made: random.Random, value: Any) -> Any:
    """The same with something odd in it, at any depth."""
    if made.random() < 0.15:
        return made.choice(ODD)
    if isinstance(value, dict):
        return {key: spoiled(made, each) for key, each in value.items() if made.random() > 0.05}
    if isinstance(value, list):
        return [spoiled(made, each) for each in value] * made.choice((1, 1, 1, 3))
    return value


def request(made: random.Random, key: str) -> tuple[str, bytes, dict[str, str]]:
    """Method, body and headers."""
    given = spoiled(made, made.choice(BODIES))
    if isinstance(given, dict) and made.random() < 0.7:
        given |= {name: key for name in ("routing_key", "service_key") if name in given}
    data = json.dumps(given).encode()
    if made.random() < 0.2:
        data = data[: made.randrange(len(data) + 1)] + made.randbytes(made.randrange(20))
    headers = {"Authorization": made.choice((f"Bearer {key}", f"Bearer {key}", f"bearer  {key}", "Basic eA==", key))}
    if made.random() < 0.1:
        headers |= {
            f"ce-{name}": made.choice(("1.0", "", "%ff%zz", "x" * 5000))
            for name in ("id", "source", "type", "specversion")
        }
    if made.random() < 0.2:
        headers["Content-Encoding"] = made.choice(("gzip", "deflate", "br", "zstd", "identity", "x"))
    if made.random() < 0.3:
        kinds = ("application/json", "text/plain", "multipart/form-data", "x", "application/json; charset=utf-16")
        headers["Content-Type"] = made.choice(kinds)
    return made.choice(("POST",) * 8 + ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW")), data, headers


async def answered(
    http: aiohttp.ClientSession, method: str, url: str, data: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    """Status and body. A server may close the connection behind a body that it does not take, and so before another request."""
    for attempt in range(TRIES):
        try:
            async with http.request(method, url, data=data, headers=headers) as response:
                return response.status, await response.read()
        except aiohttp.ClientConnectionError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError


async def test_no_request_is_answered_with_a_defect(world: World, tenant: Tenant) -> None:
    [replica] = world.stack.services["ingest"]
    log = world.stack.log_dir / "ingest.log"
    begun = log.stat().st_size
    process = psutil.Process(replica.process.pid)
    before = process.memory_info().rss
    key = (await tenant.integration()).key
    wrong: list[str] = []
    gate = asyncio.Semaphore(AT_ONCE)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as http:

        async def one(path: str, number: int) -> None:
            made = random.Random(f"{SEED} {path} {number}")
            method, data, headers = request(made, key)
            async with gate:
                try:
                    status, answer = await answered(http, method, f"{replica.http_url}{path}", data, headers)
                except aiohttp.ClientError as error:
                    wrong.append(f"{method} {path} {data[:300]!r} {headers}: {error!r}")
                    return
            if status >= 500 and status != 503:
                wrong.append(f"{method} {path} {data[:300]!r} {headers}: {status} {answer[:300]!r}")

        number, until = 0, time.monotonic() + SECONDS
        while number < ROUNDS or time.monotonic() < until:
            await asyncio.gather(*(one(path, number) for path in routes()))
            number += 1
        assert wrong == []
        async with http.get(f"{replica.http_url}/healthz") as response:
            assert response.status == 200
    assert psutil.Process(replica.process.pid) == process
    assert process.memory_info().rss - before < MOST_GROWTH
    said = log.read_bytes()[begun:].decode(errors="replace")
    assert "internal_error" not in said
    assert [line for line in said.splitlines() if "Traceback" in line] == []
