"""What a sender is answered that a limit refuses: the status that makes *it* come again.

Alertmanager 0.25 was seen to repeat 503 within a second and 429 only with its group's next interval; the others by their documents
and sources (`docs/reference/senders.md`).
"""

from collections.abc import Iterable
from typing import Any, Final

from tocsin_ingest.app.alerts.admission import ALERTS
from tocsin_kit.budgets import RPCS

from tests.contract.ingest.posting import PATHS, Sender, sender

__all__ = ["sender"]

REPEAT_ONLY_5XX: Final = {"/v1/alertmanager", "/v1/datadog", "/v1/sentry", "/v1/sns"}
_ALERT: Final = {"status": "firing", "labels": {"alertname": "Disk"}}
ALERTS_OF: Final[dict[str, Any]] = {
    "/v1/alertmanager": {"version": "4", "alerts": [_ALERT]},
    "/v1/grafana": {"version": "1", "alerts": [_ALERT]},
    "/api/v2/alerts": [_ALERT],
    "/v1/json": {"summary": "disk full"},
    "/v1/uptime-kuma": {"msg": "[shop] [Down]", "heartbeat": {"status": 0}, "monitor": {"id": 7, "name": "shop"}},
    "/v1/datadog": {"title": "CPU is high", "key": "6b5c1f7e", "transition": "Triggered"},
    "/v1/zabbix": {"event_id": "5012", "value": "1", "name": "High CPU utilization"},
    "/v1/sentry": {"action": "triggered", "data": {"event": {"issue_id": "1", "title": "t"}, "triggered_rule": "r"}},
    "/v2/enqueue": {
        "event_action": "trigger",
        "payload": {"summary": "disk full", "source": "db-1", "severity": "error"},
    },
    "/v2/alerts": {"message": "disk full"},
}


async def test_too_many_calls_are_answered_so_that_the_sender_comes_again(sender: Sender) -> None:
    sender.ingest.runtime.rpc.budgets.note(sender.org, RPCS, 1e9)
    assert {path: await _answered(sender, path, {}) for path in PATHS} == _wanted(PATHS)


async def test_too_many_alerts_are_answered_so_that_the_sender_comes_again(sender: Sender) -> None:
    sender.ingest.runtime.rpc.budgets.note(sender.org, ALERTS, 1e9)
    assert {path: await _answered(sender, path, body) for path, body in ALERTS_OF.items()} == _wanted(ALERTS_OF)


def _wanted(paths: Iterable[str]) -> dict[str, int]:
    return {path: 503 if path in REPEAT_ONLY_5XX else 429 for path in paths}


async def _answered(sender: Sender, path: str, body: Any) -> int:
    """The status of an answer that says when to come again."""
    if isinstance(body, dict):
        body = {"routing_key": sender.key, "service_key": sender.key, **body}
    headers = {"Authorization": f"Bearer {sender.key}", "X-Routing-Key": sender.key}
    async with sender.http.post(f"{sender.ingest.http}{path}", json=body, headers=headers) as response:
        assert int(response.headers.get("Retry-After", 0)) >= 1, (path, await response.text())
        return response.status
