"""Senders whose bodies a mapping of ours reads: Uptime Kuma's preset webhook; Datadog's and Zabbix's as the reference has them."""

from typing import Any

import aiohttp
import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, ALERT_STATE_RESOLVED
from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_INFO, SEVERITY_WARNING
from tocsin_testkit import busy

from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org


class Client:
    """Posts with the key of a new integration."""

    def __init__(self, ingest: Ingest, path: str) -> None:
        self.ingest, self.path, self.org = ingest, path, new_org()

    async def post(self, body: Any) -> tuple[int, Any]:
        if not hasattr(self, "key"):
            _, self.key = await self.ingest.integration(self.org)
        headers = {"Authorization": f"Bearer {self.key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(f"{self.ingest.http}{self.path}", json=body) as response,
        ):
            return response.status, await response.json()

    async def alerts(self) -> list[Any]:
        listed = await self.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(self.org))
        return sorted((each for each in listed.alerts if each.source != "Tocsin"), key=lambda each: each.summary)


def kuma(status: int, text: str) -> dict[str, Any]:
    """As version 2 posts it."""
    return {
        "heartbeat": {
            "monitorID": 7,
            "status": status,
            "time": "2026-03-14 03:07:11.953",
            "msg": text,
            "ping": None,
            "important": True,
            "duration": 60,
            "timezone": "Europe/Berlin",
            "localDateTime": "2026-03-14 04:07:11",
        },
        "monitor": {
            "id": 7,
            "name": "shop",
            "url": "https://shop.example.com/",
            "type": "http",
            "basic_auth_pass": "secret",
            "tags": [{"tag_id": 1, "name": "prod", "value": ""}, {"tag_id": 2, "name": "team", "value": "shop"}],
        },
        "msg": f"[shop] [{'✅ Up' if status == 1 else '🔴 Down'}] {text}",
    }


async def test_a_monitor_of_uptime_kuma_goes_down_and_comes_up(ingest: Ingest) -> None:
    client = Client(ingest, "/v1/uptime-kuma")
    for _ in range(2):
        assert (await client.post(kuma(0, "connect ECONNREFUSED 192.0.2.7:443")))[0] == 200
    [alert] = await client.alerts()
    assert (alert.dedup_key, alert.count, alert.state) == ("7", 2, ALERT_STATE_FIRING)
    assert alert.summary == "[shop] [🔴 Down] connect ECONNREFUSED 192.0.2.7:443"
    assert (alert.source, alert.severity) == ("shop", SEVERITY_CRITICAL)
    of_monitor = {"monitor": "shop", "type": "http", "url": "https://shop.example.com/"}
    assert dict(alert.labels) == {**of_monitor, "tags": "prod,team=shop"}
    assert "secret" not in str(alert)
    assert (await client.post(kuma(1, "200 - OK")))[0] == 200
    assert [each.state for each in await client.alerts()] == [ALERT_STATE_RESOLVED]


async def test_a_monitor_of_uptime_kuma_without_tags_has_no_label_of_them(ingest: Ingest) -> None:
    client = Client(ingest, "/v1/uptime-kuma")
    for number in (7, 8):
        body = kuma(0, "down")
        body["monitor"] |= {"id": number, "tags": [] if number == 7 else None}
        assert (await client.post(body))[0] == 200
    assert [sorted(each.labels) for each in await client.alerts()] == [["monitor", "type", "url"]] * 2


async def test_what_uptime_kuma_says_without_a_monitor_is_an_alert_by_its_text(ingest: Ingest) -> None:
    client = Client(ingest, "/v1/uptime-kuma")
    for text in ("[shop][https://shop.example.com] certificate will expire in 14 days", "My webhook Testing"):
        assert (await client.post({"heartbeat": None, "monitor": None, "msg": text}))[0] == 200
    alerts = await client.alerts()
    assert [each.severity for each in alerts] == [SEVERITY_WARNING, SEVERITY_WARNING]
    assert len({each.dedup_key for each in alerts}) == 2


def datadog(transition: str, **fields: str) -> dict[str, str]:
    return {
        "title": f"[{transition}] CPU is high on web-1",
        "body": "%%% CPU over 90 % %%%",
        "key": "6b5c1f7e",
        "transition": transition,
        "type": "error",
        "priority": "",
        "monitor": "1234",
        "scope": "host:web-1",
        "host": "web-1",
        "link": "https://app.datadoghq.com/event/event?id=123456",
        **fields,
    }


@pytest.mark.parametrize("transition", ["Triggered", "Warn", "No Data", "Re-Triggered", "Renotify"])
async def test_a_monitor_of_datadog_fires_and_recovers(ingest: Ingest, transition: str) -> None:
    client = Client(ingest, "/v1/datadog")
    assert (await client.post(datadog(transition)))[0] == 200
    [alert] = await client.alerts()
    assert (alert.dedup_key, alert.state, alert.severity) == ("6b5c1f7e", ALERT_STATE_FIRING, SEVERITY_ERROR)
    assert dict(alert.labels) == {"host": "web-1", "monitor": "1234", "scope": "host:web-1"}
    assert [link.href for link in alert.links] == ["https://app.datadoghq.com/event/event?id=123456"]
    assert (await client.post(datadog("Recovered", type="success")))[0] == 200
    assert [each.state for each in await client.alerts()] == [ALERT_STATE_RESOLVED]


async def test_the_priority_of_a_monitor_comes_before_its_type(ingest: Ingest) -> None:
    client = Client(ingest, "/v1/datadog")
    assert (await client.post(datadog("Triggered", priority="P1")))[0] == 200
    assert [each.severity for each in await client.alerts()] == [SEVERITY_CRITICAL]
    status, answer = await client.post(datadog("Muted"))
    assert (status, "is 'Muted', which Datadog is not known" in answer["errors"][0]["message"]) == (400, True)


def zabbix(value: str, **fields: Any) -> dict[str, Any]:
    """As the script of the reference posts it: the values of macros are texts."""
    return {
        "event_id": "5012",
        "value": value,
        "update": "0",
        "acknowledged": "No",
        "severity": "4",
        "name": "High CPU utilization (over 90% for 5m)",
        "host": "web-1",
        "host_group": "Linux servers",
        "ip": "192.0.2.7",
        "trigger_id": "16199",
        "operational_data": "Current utilization: 97.31 %",
        "message": "Problem started at 03:07:11 on 2026.03.14",
        "tags": {"scope": "performance", "component": "cpu"},
        "link": "https://zabbix.example.com/tr_events.php?triggerid=16199&eventid=5012",
        **fields,
    }


async def test_a_problem_of_zabbix_is_acknowledged_there_and_recovers(
    ingest: Ingest, escalation: FakeEscalation
) -> None:
    client = Client(ingest, "/v1/zabbix")
    assert (await client.post(zabbix("1")))[0] == 200
    [alert] = await client.alerts()
    assert (alert.dedup_key, alert.state, alert.severity) == ("5012", ALERT_STATE_FIRING, SEVERITY_ERROR)
    assert (alert.summary, alert.source) == ("High CPU utilization (over 90% for 5m)", "web-1")
    assert dict(alert.labels) == {
        "host": "web-1",
        "host_group": "Linux servers",
        "trigger": "16199",
        "scope": "performance",
        "component": "cpu",
    }
    assert [link.href for link in alert.links] == [zabbix("1")["link"]]
    # A comment is no answer; an acknowledge in Zabbix is one.
    assert (await client.post(zabbix("1", update="1")))[0] == 200
    assert (await client.post(zabbix("1", update="1", acknowledged="Yes")))[0] == 200
    assert (await client.post(zabbix("0", acknowledged="Yes")))[0] == 200
    assert [each.state for each in await client.alerts()] == [ALERT_STATE_RESOLVED]
    await busy.until(lambda: "resolved" in escalation.kinds(alert.incident))
    assert escalation.kinds(alert.incident)[0] == "opened"
    assert escalation.kinds(alert.incident)[-2:] == ["acknowledged", "resolved"]


async def test_the_severities_of_zabbix_are_known_by_number(ingest: Ingest) -> None:
    client = Client(ingest, "/v1/zabbix")
    for number in range(6):
        sent = zabbix("1", event_id=number, severity=str(number), name=f"s{number}", tags=None)
        assert (await client.post(sent))[0] == 200
    assert [each.severity for each in await client.alerts()] == [
        SEVERITY_CRITICAL,  # "not classified", and no routing rule that says more
        SEVERITY_INFO,
        SEVERITY_WARNING,
        SEVERITY_ERROR,
        SEVERITY_ERROR,
        SEVERITY_CRITICAL,
    ]
    status, answer = await client.post(zabbix("", name=""))
    assert (status, answer["errors"][0]["message"][:27]) == (400, "event: name gives nothing, ")


@pytest.mark.parametrize(
    ("path", "sent", "told"),
    [
        ("/v1/uptime-kuma", kuma(9, "x"), "heartbeat.status is '9', which Uptime Kuma is not known to send"),
        ("/v1/datadog", {"title": "t", "transition": "Odd"}, "transition is 'Odd', which Datadog is not known to send"),
        ("/v1/zabbix", zabbix("7"), "value is '7', which Zabbix is not known to send"),
    ],
)
async def test_a_body_that_is_not_known_is_told_by_its_own_fields(
    ingest: Ingest, path: str, sent: dict[str, Any], told: str
) -> None:
    """The mapping is ours: its fields say nothing to a user who has written none."""
    status, answer = await Client(ingest, path).post(sent)
    assert (status, answer["errors"][0]["message"]) == (400, f"event: {told}")
