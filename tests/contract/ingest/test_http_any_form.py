"""No page is lost at the door to the size or the form of a body, and no body costs others anything."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import (
    SearchStrategy,
    binary,
    dictionaries,
    floats,
    integers,
    just,
    lists,
    none,
    one_of,
    recursive,
    sampled_from,
    text,
)
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING
from tocsin.ingest.v1.integration_service_pb2 import MATCH_OPERATOR_EQUAL, LabelMatcher, RoutingRule
from tocsin_ingest.domain.fingerprint import prometheus_fingerprint
from tocsin_ingest.http import receiver
from tocsin_kit.time_slices import TimeSlice
from tocsin_testkit.busy import until, within

from tests.contract.ingest.posting import PATHS, Sender, alert, sender
from tests.rounds import examples
from tests.store.ingest.support import FakeEscalation, Ingest, new_org, running

__all__ = ["sender"]

TRIES = 5


async def test_a_group_of_thousands_gets_in_whole(sender: Sender) -> None:
    group = [alert(f"f{number}", annotations={"description": "x" * 600}) for number in range(3000)]
    async with asyncio.timeout(within(60)):
        # A machine without time for all of it tells the sender to repeat, as it does of its own.
        while (took := await sender.group(*group))[0] == 503:
            continue
    assert took == (200, {"status": "success", "accepted": 3000})
    assert len(await sender.keys()) == 3000


async def test_a_group_beyond_the_burst_gets_in_by_its_repeats(database_url: str, escalation: FakeEscalation) -> None:
    async with (
        running(database_url, escalation.target, rate_per_second=150, rate_burst=100) as ingest,
        aiohttp.ClientSession() as http,
    ):
        org = new_org()
        _, key = await ingest.integration(org)
        sender = Sender(ingest, http, org, key)
        statuses: list[int] = []
        took: list[float] = []
        async with asyncio.timeout(within(20)):
            while True:
                began = time.monotonic()
                statuses.append((await sender.group(*(alert(f"f{number}") for number in range(400))))[0])
                took.append(time.monotonic() - began)
                if statuses[-1] == 200:
                    break
                # Repeated more often, the group would spend more than ten times the rate, which is the limit of repeats.
                await asyncio.sleep(0.3)
        # A machine that takes as long over the first as the rate needs for what is beyond the burst has it in at once.
        assert set(statuses[:-1]) == {503} or (len(statuses) == 1 and took[0] > (400 - 100) / 150)
        assert len(await sender.keys()) == 400


async def test_answers_stay_small_however_much_is_refused(sender: Sender) -> None:
    body = b'{"version": "4", "alerts": [' + b"1," * 300_000 + b"1]}"
    url, headers = f"{sender.ingest.http}/v1/alertmanager", {"Authorization": f"Bearer {sender.key}"}
    async with sender.http.post(url, data=io.BytesIO(body), headers=headers) as response:
        assert response.status == 400
        answered = await response.read()
    assert len(answered) < 20_000
    assert len(json.loads(answered)["errors"]) == 50


async def test_bodies_that_do_not_fit_into_memory_come_again(database_url: str, escalation: FakeEscalation) -> None:
    async with (
        running(database_url, escalation.target, http_max_request_bytes=1 << 20, http_max_body_bytes=1 << 21) as ingest,
        aiohttp.ClientSession() as http,
    ):
        org = new_org()
        _, key = await ingest.integration(org)
        sender = Sender(ingest, http, org, key)
        release = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b'{"version": "4", "alerts": [], "x": "' + b"y" * 900_000
            await release.wait()
            yield b'"}'

        async def post(http: aiohttp.ClientSession, url: str, body: Any, headers: dict[str, str]) -> int:
            async with http.post(url, data=body, headers=headers) as response:
                return response.status

        url, headers = f"{ingest.http}/v1/alertmanager", {"Authorization": f"Bearer {key}"}
        held: list[asyncio.Task[int]] = []
        large = {"version": "4", "alerts": [alert("f")], "x": "y" * 500_000}
        async with asyncio.timeout(within(10)):
            while (await sender.post("/v1/alertmanager", large))[0] != 503:
                held.append(asyncio.create_task(post(http, url, slow(), headers)))
                await asyncio.sleep(0.05)
            release.set()
            assert set(await asyncio.gather(*held)) <= {200, 503}
            assert (await sender.post("/v1/alertmanager", large))[0] == 200


async def test_grafana_is_understood(sender: Sender) -> None:
    grafana = alert("g", dashboardURL="https://grafana.example.com/d/1", values={"A": 1.5}, valueString="[ x ]")
    assert (await sender.group(grafana, version="1", orgId=1, title="[FIRING:1]", state="alerting"))[0] == 200
    (taken,) = await sender.alerts()
    assert [link.href for link in taken.links] == ["https://grafana.example.com/d/1"]


@pytest.mark.parametrize(
    "change",
    [
        {"event_action": "TRIGGER"},
        {"event_action": " Trigger "},
        {"dedup_key": 7},
        {"dedup_key": "k" * 300},
        {"payload": {"summary": "s", "severity": "info"}},
        {"payload": {"summary": "s", "source": ["a", 1]}},
        {"payload": {"summary": 5, "source": 6, "severity": 7}},
        {"payload": {"summary": "s", "source": "s", "severity": "CRITICAL"}},
        {"payload": {"summary": "s", "source": "s", "severity": "sev-1"}},
        {"payload": {"summary": "s", "source": "s", "severity": None, "timestamp": "9999-12-31T23:59:59-10:00"}},
        {"payload": {"summary": "s", "custom_details": float("nan"), "component": {"a": 1}}},
        {"links": "x", "images": [1, None], "client": 7, "client_url": 8},
    ],
)
@pytest.mark.parametrize("path", ["/v2/enqueue", "/v2/enqueue/", "/v1/enqueue"])
async def test_an_event_in_a_form_of_its_own_pages_all_the_same(sender: Sender, change: Any, path: str) -> None:
    event = {"event_action": "trigger", "dedup_key": "k", "payload": {"summary": "s", "source": "s"}} | change
    status, answer = await sender.post(path, event)
    assert (status, answer["status"]) == (202, "success")
    (taken,) = await sender.alerts()
    assert taken.state == ALERT_STATE_FIRING
    assert taken.dedup_key == answer["dedup_key"]
    assert (await sender.post(path, event | {"event_action": "resolve"}))[0] == 202
    assert await sender.keys() == set()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/alertmanager", lambda labels: {"alerts": [alert("k", labels=labels)]}),
        ("/api/v2/alerts", lambda labels: json.dumps([{"labels": labels}]).encode()),
        ("/v1/grafana", lambda labels: {"alerts": [alert("k", annotations=labels)]}),
        ("/v1/json", lambda labels: {"summary": "s", "dedup_key": "k", "labels": labels}),
        ("/v2/alerts", lambda labels: {"message": "m", "alias": "k", "details": labels}),
    ],
)
async def test_no_alert_has_more_labels_than_can_be_looked_at_in_a_moment(sender: Sender, path: str, body: Any) -> None:
    """60,000 of them keep the loop, and with it everybody, for a third of a second."""
    few, many = ({f"n{number}": "v" for number in range(count)} for count in (2000, 2001))
    assert (await sender.post(path, body(few)))[0] in (200, 202)
    status, answer = await sender.post(path, body(many))
    assert status in (400, 422)
    assert "2000 labels" in json.dumps(answer)
    assert "tocsin-refused-alerts" in await sender.keys()


async def test_an_event_of_the_first_version_fires_and_resolves(sender: Sender) -> None:
    path = "/generic/2010-04-15/create_event.json"
    event = {
        "event_type": "trigger",
        "incident_key": "srv01/HTTP",
        "description": "down",
        "details": {"ping": "1500ms"},
    }
    assert await sender.post(path, event) == (
        200,
        {"status": "success", "message": "Event processed", "incident_key": "srv01/HTTP"},
    )
    assert await sender.keys() == {"srv01/HTTP"}
    assert (await sender.post(path, {"event_type": "resolve", "incident_key": "srv01/HTTP"}))[0] == 200
    assert await sender.keys() == set()
    status, answer = await sender.post(path, {"event_type": "trigger"})
    assert (status, answer["errors"]) == (400, ["'description' is missing or blank"])


@pytest.mark.parametrize("around", [" {} ", "{}\n", "\t{}\r\n"])
async def test_a_key_may_come_with_blanks(sender: Sender, around: str) -> None:
    event = {"event_action": "trigger", "payload": {"summary": "s"}, "routing_key": around.format(sender.key)}
    url = f"{sender.ingest.http}/v2/enqueue"
    async with sender.http.post(url, data=json.dumps(event)) as response:
        assert response.status == 202
    quoted = around.format(sender.key).encode("unicode_escape").decode().replace(" ", "%20")
    for escape, code in (("\\n", "%0A"), ("\\t", "%09"), ("\\r", "%0D")):
        quoted = quoted.replace(escape, code)
    async with sender.http.post(f"{sender.ingest.http}/v1/alertmanager/{quoted}", data=b'{"alerts": []}') as response:
        assert response.status == 200


async def test_labels_beyond_what_is_shown_still_tell_alerts_apart_and_route_them(ingest: Ingest) -> None:
    org = new_org()
    far = [LabelMatcher(label="label-number-99", value="b", operator=MATCH_OPERATOR_EQUAL)]
    _, key = await ingest.integration(org, rules=[RoutingRule(matchers=far, suppress=True)])
    async with aiohttp.ClientSession() as http:
        sender = Sender(ingest, http, org, key)
        labels = {f"label-number-{number:02}": "v" for number in range(99)}
        alerts = [
            {"status": "firing", "labels": labels | {"label-number-99": "a"}},
            {"status": "firing", "labels": labels | {"label-number-99": "b"}},
            {"status": "firing", "labels": {"long": "x" * 1024 + "a"}},
            {"status": "firing", "labels": {"long": "x" * 1024 + "b"}},
        ]
        assert (await sender.group(*alerts))[0] == 200
        assert len(await sender.alerts()) == 4
        assert len(await sender.keys()) == 3


async def test_refused_alerts_open_one_incident_an_hour(sender: Sender) -> None:
    for _ in range(3):
        assert (await sender.group(alert("good"), {"status": "odd", "fingerprint": "f"}, 7))[0] == 400
    event = {"event_action": "close", "payload": {"summary": "s"}}
    assert (await sender.post("/v2/enqueue", event))[0] == 400
    told = [each for each in await sender.alerts() if each.dedup_key == "tocsin-refused-alerts"]
    assert [each.summary for each in told] == [
        "2 alerts were refused: alerts[1].status: must be firing or resolved; is 'odd'"
    ]
    assert told[0].count == 1
    assert told[0].incident


async def test_what_is_refused_within_an_hour_of_the_last_report_is_told_at_its_end(sender: Sender) -> None:
    """Its sender sent it once, and the incident of the first report was resolved meanwhile."""
    for event in ({"event_action": "close"}, {"event_action": "trigger", "payload": {"severity": "info"}}):
        assert (await sender.post("/v2/enqueue", event))[0] == 400
    database = sender.ingest.database
    async with database.transaction(sender.org) as tx:
        await tx.execute("UPDATE refused_alerts SET report_time = app_now() - interval '61 minutes', refused = 1")
        await tx.execute("UPDATE refused_alerts SET reason = 'payload.summary: is missing'")

    async def told() -> bool:
        [alert] = [each for each in await sender.alerts() if each.dedup_key == "tocsin-refused-alerts"]
        return bool(alert.count == 2)

    await until(told)
    async with database.transaction(sender.org) as tx:
        assert await tx.fetchval("SELECT refused FROM refused_alerts") == 0


async def test_a_key_of_no_integration_is_counted(sender: Sender) -> None:
    async with sender.http.post(f"{sender.ingest.http}/v2/enqueue", data=b'{"routing_key": "tik_no"}') as response:
        assert response.status == 400
    assert await sender.alerts() == []
    rendered = sender.ingest.runtime.metrics.render().decode()
    assert 'tocsin_ingest_refused_total{format="pagerduty",reason="CREDENTIAL_INVALID"}' in rendered


async def test_a_copy_that_comes_after_its_resolve_pages_no_user(sender: Sender, escalation: FakeEscalation) -> None:
    firing = alert("f", startsAt="2026-03-14T03:07:11.953Z", endsAt="0001-01-01T00:00:00Z")
    over = firing | {"status": "resolved", "endsAt": "2026-03-14T03:09:11Z"}
    next_one = firing | {"startsAt": "2026-03-14T03:10:00Z"}
    for sent, live in ((firing, {"f"}), (over, set()), (firing, set()), (next_one, {"f"}), (over, {"f"})):
        assert (await sender.group(sent))[0] == 200
        assert await sender.keys() == live
    assert len(await sender.alerts()) == 2
    overtaken = alert("g", startsAt="2026-03-14T03:07:11Z")
    assert (await sender.group(overtaken | {"status": "resolved", "endsAt": "2026-03-14T03:08:00Z"}))[0] == 200
    assert (await sender.group(overtaken))[0] == 200
    assert await sender.keys() == {"f"}


JSON: SearchStrategy[Any] = recursive(
    none()
    | integers()
    | floats()
    | text(max_size=20)
    | sampled_from(
        ["9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00", "firing", "resolved", "\ud800", "a\0b", True]
    ),
    lambda inner: lists(inner, max_size=3) | dictionaries(text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = """status labels annotations startsAt endsAt fingerprint generatorURL version groupKey groupLabels externalURL
truncatedAlerts receiver event_action dedup_key payload client client_url links images summary severity
action source specversion id type data data_base64 msg monitor
heartbeat title transition priority event_type incident_key description
details contexts"""
IN_PAYLOAD = "summary source severity component group class custom_details timestamp"
OBJECTS = dictionaries(sampled_from(FIELDS.split()), JSON, max_size=6)
EVENTS = OBJECTS.flatmap(
    lambda fields: dictionaries(sampled_from(IN_PAYLOAD.split()), JSON, max_size=6).map(
        lambda payload: {"event_action": "trigger", "event_type": "trigger", "payload": payload, **fields}
    )
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lists(one_of(OBJECTS, JSON), max_size=5),
    EVENTS,
    one_of(binary(max_size=80), just(b'{"a":' * 950 + b"1" + b"}" * 950)),
)
async def test_a_good_alert_is_committed_beside_any_other_that_is_posted(
    sender: Sender, odd: list[Any], event: dict[str, Any], noise: bytes
) -> None:
    async def never_5xx(path: str, body: Any) -> None:
        for _ in range(TRIES):
            status, _ = await sender.post(path, body)
            if status != 503:  # a busy machine: what a form is to blame for is the same each time
                break
        assert status in (200, 202, 400, 422), (path, body)

    name = f"good-{len(await sender.keys())}"
    await never_5xx("/v1/alertmanager", {"version": "4", "alerts": [*odd, alert(name)]})
    await never_5xx("/v1/json", json.dumps([*odd, {"summary": "s", "dedup_key": f"j-{name}"}]).encode())
    assert f"j-{name}" in await sender.keys()
    await never_5xx("/api/v2/alerts", json.dumps([*odd, alert(name)]).encode())
    assert {name, prometheus_fingerprint({"alertname": name})} <= await sender.keys()
    for path in PATHS:
        await never_5xx(path, event)
        await never_5xx(path, noise)
    await never_5xx("/v1/alertmanager", b'{"alerts": [' + noise + b"]}")


async def test_noise_and_clients_that_leave_are_no_error(
    sender: Sender, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    port = int(sender.ingest.http.rpartition(":")[2])
    noise = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 100,
        b"POST /v2/enqueue HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        b"POST /v2/enqueue HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{",
        b"POST /v2/enqueue HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    )
    for each in noise:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(each)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(within(10)):
            await reader.read(1000)
        writer.close()
    assert (await sender.group(alert("after")))[0] == 200
    logged = caplog.text + "".join(capfd.readouterr())
    assert "Traceback" not in logged
    assert "ERROR" not in logged
    assert "[error" not in logged


async def test_other_tasks_run_while_refusals_are_told(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    given = 0

    class Counted(TimeSlice):
        async def yield_if_over(self) -> bool:
            nonlocal given
            given += 1
            return await super().yield_if_over()

    monkeypatch.setattr(receiver, "TimeSlice", Counted)
    status, _ = await sender.group(*[1] * 1000)
    assert (status, given) == (400, 1000)
