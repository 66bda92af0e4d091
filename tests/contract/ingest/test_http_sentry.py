"""Sentry's integration platform, with the payloads of its documentation, shortened."""

from typing import Any

import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, ALERT_STATE_RESOLVED
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_WARNING

from tests.contract.ingest.posting import Sender, sender

__all__ = ["sender"]

ACTOR = {"id": "sentry", "name": "Sentry", "type": "application"}
INSTALLATION = {"uuid": "a8e5d37a-696c-4c54-adb5-b3f28d64c7de"}


def issue_alert(**fields: Any) -> dict[str, Any]:
    event = {
        "culprit": "?(runner)",
        "datetime": "2020-07-30T17:41:24.345Z",
        "environment": "production",
        "event_id": "e4874d664c3540c1a32eab185f12c5ab",
        "issue_id": "1170820242",
        "issue_url": "https://sentry.io/api/0/issues/1170820242/",
        "level": "error",
        "platform": "javascript",
        "project": 1,
        "tags": [["browser", "Firefox 70.0"], ["url", "https://example.com/"]],
        "title": "ReferenceError: heck is not defined",
        "web_url": "https://sentry.io/organizations/test-org/issues/1170820242/events/e4874d664c3540c1a32eab185f12c5ab/",
    } | fields
    data = {"event": event, "triggered_rule": "Very Important Alert Rule!"}
    return {"action": "triggered", "actor": ACTOR, "data": data, "installation": INSTALLATION}


def issue(action: str) -> dict[str, Any]:
    found = {"id": "1170820242", "shortId": "IPE-1", "title": "ReferenceError: heck is not defined", "status": action}
    return {"action": action, "actor": ACTOR, "data": {"issue": found}, "installation": INSTALLATION}


def metric_alert(action: str) -> dict[str, Any]:
    data = {
        "description_text": "1000 events in the last 10 minutes\\nFilter: level:error",
        "description_title": f"{action.title()}: Too many errors",
        "metric_alert": {
            "alert_rule": {"aggregate": "count()", "id": "7", "name": "Too many errors", "environment": None},
            "id": "4",
            "identifier": "1",
            "status": 20,
            "title": "Too many errors",
        },
        "web_url": "https://sentry.io/organizations/test-org/alerts/1/",
    }
    return {"action": action, "actor": ACTOR, "data": data, "installation": INSTALLATION}


async def test_an_issue_alert_fires_until_its_issue_is_resolved(sender: Sender) -> None:
    for _ in range(2):
        # As Sentry posts it: the key is the end of the URL.
        assert (await sender.post(f"/v1/sentry/{sender.key}", issue_alert(), Authorization=""))[0] == 200
    [alert] = await sender.alerts()
    assert (alert.dedup_key, alert.count, alert.state) == ("issue/1170820242", 2, ALERT_STATE_FIRING)
    assert (alert.summary, alert.severity) == ("ReferenceError: heck is not defined", SEVERITY_ERROR)
    assert alert.labels["rule"] == "Very Important Alert Rule!"
    assert (alert.labels["environment"], alert.labels["browser"]) == ("production", "Firefox 70.0")
    assert [link.href for link in alert.links] == [issue_alert()["data"]["event"]["web_url"]]
    for action, state in (("assigned", ALERT_STATE_FIRING), ("resolved", ALERT_STATE_RESOLVED)):
        assert (await sender.post("/v1/sentry", issue(action)))[0] == 200
        assert [each.state for each in await sender.alerts()] == [state]


async def test_a_metric_alert_fires_by_its_severity_and_is_over(sender: Sender) -> None:
    for action, severity in (("warning", SEVERITY_WARNING), ("critical", SEVERITY_CRITICAL)):
        assert (await sender.post("/v1/sentry", metric_alert(action)))[0] == 200
        [alert] = await sender.alerts()
        assert (alert.dedup_key, alert.severity) == ("metric/4", severity)
    assert (alert.summary, alert.source) == ("Critical: Too many errors", "Too many errors")
    assert (await sender.post("/v1/sentry", metric_alert("resolved")))[0] == 200
    assert [each.state for each in await sender.alerts()] == [ALERT_STATE_RESOLVED]


@pytest.mark.parametrize(
    "body",
    [
        {"action": "created", "data": {"installation": {"uuid": "u"}}},
        {"action": "created", "data": {"error": {"event_id": "e"}}},
        {"action": "created", "data": {"comment": "c", "issue_id": 1}},
        issue("created"),
        issue("unresolved"),
    ],
)
async def test_what_is_no_alert_is_taken_and_does_nothing(sender: Sender, body: dict[str, Any]) -> None:
    assert await sender.post("/v1/sentry", body) == (200, {"status": "success", "accepted": 0})
    assert await sender.alerts() == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (issue_alert(issue_id=None), "event.data.event.issue_id: is missing"),
        (metric_alert("odd"), "event.action: must be one of critical, warning, resolved; is 'odd'"),
    ],
)
async def test_what_cannot_be_told_apart_is_refused(sender: Sender, body: dict[str, Any], told: str) -> None:
    status, answer = await sender.post("/v1/sentry", body)
    assert (status, answer["errors"][0]["message"].startswith(told)) == (400, True), answer
    status, answer = await sender.post("/v1/sentry", {"action": "triggered"})
    assert (status, answer["error"]["fields"][0]["field"]) == (400, "data")
