"""Every sender's payload with an odd value at every place in it: each alert is taken, or its refusal is seen."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.contract.ingest.posting import Sender, sender
from tests.contract.ingest.test_http_presets import datadog, kuma, zabbix
from tests.contract.ingest.test_http_sentry import issue, issue_alert, metric_alert
from tests.rounds import LONG

__all__ = ["sender"]

PAYLOADS: Final = Path(__file__).parent / "payloads"
GONE: Final = object()
ODD: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1e308, 10**40, 2**63, "", " ", "\0", "\ud800", "x" * 70_000, "9999-12-31T23:59:59-14:00"),
    *([], {}, [[[[]]]], {"": None}, ["firing"] * 3, GONE),
)
CLOUD_EVENT: Final = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "t",
    "subject": "s",
    "time": "2026-01-01T00:00:00Z",
    "datacontenttype": "application/json",
    "data": {"summary": "s", "severity": "critical", "labels": {"a": "b"}},
}
OPSGENIE: Final = {
    "message": "m",
    "alias": "a",
    "priority": "P1",
    "tags": ["t"],
    "details": {"a": "b"},
    "responders": [{"name": "n", "type": "team"}],
    "entity": "e",
    "source": "s",
    "note": "n",
}
GENERIC: Final = {
    "summary": "s",
    "dedup_key": "k",
    "severity": "error",
    "action": "trigger",
    "labels": {"a": "b"},
    "links": ["http://x", {"href": "http://y", "text": "t"}],
    "details": {"a": [1]},
}
V1: Final = {
    "event_type": "trigger",
    "incident_key": "i",
    "description": "d",
    "details": {"a": "b"},
    "contexts": [{"type": "link"}],
}


def stored(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())


SENT: Final[dict[str, tuple[str, Any]]] = {
    "alertmanager": ("/v1/alertmanager", stored("alertmanager_firing")),
    "grafana": ("/v1/grafana", stored("grafana_firing")),
    "prometheus": ("/api/v2/alerts", stored("prometheus_firing")),
    "pagerduty": ("/v2/enqueue", stored("pagerduty_trigger")),
    "pagerduty of the first version": ("/generic/2010-04-15/create_event.json", V1),
    "opsgenie": ("/v2/alerts", OPSGENIE),
    "json": ("/v1/json", GENERIC),
    "several": ("/v1/json", [GENERIC, GENERIC | {"dedup_key": "l"}]),
    "cloudevents": ("/v1/cloudevents", CLOUD_EVENT),
    "uptime kuma": ("/v1/uptime-kuma", kuma(0, "down")),
    "datadog": ("/v1/datadog", datadog("Triggered")),
    "zabbix": ("/v1/zabbix", zabbix("1")),
    "sentry issue alert": ("/v1/sentry", issue_alert()),
    "sentry metric alert": ("/v1/sentry", metric_alert("critical")),
    "sentry issue": ("/v1/sentry", issue("resolved")),
}


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in steps:
        yield from places(each, (*before, step))


def changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return {} if odd is GONE else odd
    made = copy.deepcopy(value)
    at = made
    for step in place[:-1]:
        at = at[step]
    if odd is GONE:
        del at[place[-1]]
    else:
        at[place[-1]] = odd
    return made


async def refused(sender: Sender) -> float:
    async with sender.http.get(f"{sender.ingest.http}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("tocsin_ingest_refused_total{"))


def tried(name: str, sent: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Places and what is there instead. All of them in a long run, otherwise a few of each."""
    made = random.Random(name)
    pairs = [(place, odd) for place in places(sent) for odd in ODD]
    return pairs if LONG else made.sample(pairs, 20)


@pytest.mark.parametrize("name", SENT)
async def test_an_odd_value_at_any_place_is_taken_or_its_refusal_is_seen(sender: Sender, name: str) -> None:
    path, sent = SENT[name]
    before, refusals, wrong = await refused(sender), 0, []
    for place, odd in tried(name, sent):
        body = changed(sent, place, odd)
        status, answer = await sender.post(path, body if isinstance(body, dict) else json.dumps(body).encode())
        refusals += status in (400, 413, 422)
        if status not in (200, 202, 400, 413, 422) or (isinstance(answer, dict) and is_ignored(answer, place, odd)):
            wrong.append(f"{place} = {odd!r:.60}: {status} {answer!r:.300}")
    assert not wrong, "\n".join(wrong)
    assert await refused(sender) - before >= refusals


def is_ignored(answer: dict[str, Any], place: tuple[Any, ...], odd: Any) -> bool:
    """Taken without an alert in it, and without an error. Lists may be empty, and Sentry tells of more than alerts."""
    another = place == ("action",) and isinstance(odd, str)
    return answer.get("accepted") == 0 and not answer.get("errors") and odd != [] and not another


@pytest.mark.parametrize("name", ["event", "metric_alert", "issue"])
@pytest.mark.parametrize("odd", [None, "x", [], GONE])
async def test_an_alert_of_sentry_without_what_it_is_about_is_refused(sender: Sender, name: str, odd: Any) -> None:
    sent = {"event": issue_alert(), "metric_alert": metric_alert("critical"), "issue": issue("resolved")}[name]
    status, _ = await sender.post("/v1/sentry", changed(sent, ("data", name), odd))
    assert status == 400
