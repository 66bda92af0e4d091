"""Sentry's integration platform: `POST /v1/sentry/{key}`, the webhook URL of an internal integration.

Issue alerts and metric alerts fire. An issue that is resolved or archived in Sentry, and a metric alert that is over, resolve.
Other messages to an integration (its installation, comments, single errors) are accepted and have no effect.
https://docs.sentry.io/organization/integrations/integration-platform/webhooks/
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER, AlertAction, AlertInput
from tocsin_kit.errors import invalid

from tocsin_ingest.app.integrations.directory import Routing
from tocsin_ingest.http import fit, generic, mapped
from tocsin_ingest.http.documents import Document
from tocsin_ingest.http.format import Format, Item, Json, Reading
from tocsin_ingest.http.results import answer_each_or_503, refuse_or_503
from tocsin_ingest.http.severities import severity_of

_CLIENT: Final = "Sentry"
_METRIC: Final[Mapping[str, AlertAction.ValueType]] = {
    "critical": ALERT_ACTION_TRIGGER,
    "warning": ALERT_ACTION_TRIGGER,
    "resolved": ALERT_ACTION_RESOLVE,
}
_OVER: Final = ("resolved", "archived", "ignored")
"""States of an issue that needs no person any more; the last one is the older word for archived."""
_ALERTS: Final = ("triggered", *_METRIC, *_OVER)
"""Actions of alerts and of their ends alone."""


def read(document: Document, routing: Routing) -> Reading:
    """One alert, or none."""
    data = document.fields.get("data")
    if not isinstance(data, dict):
        raise invalid("data", "must be an object; this is the path of Sentry's integration platform")
    if routing.mapping is not None:
        return Reading(partial(_mapped, routing.mapping))
    for name, make in (("event", _issue_alert), ("metric_alert", _metric_alert)):
        if isinstance(data.get(name), dict):
            return Reading(make)
    action = document.fields.get("action")
    if isinstance(data.get("issue"), dict) and action in _OVER:
        return Reading(_issue_over)
    odd = next((name for name in ("event", "metric_alert", "issue") if not isinstance(data.get(name, {}), dict)), None)
    if odd is not None:
        raise invalid(f"data.{odd}", "must be an object")
    if not isinstance(action, str) or action in _ALERTS:
        raise invalid(
            "action", "must say what happened to what is in `data`, so it is not known whether this is an alert"
        )
    return Reading(generic.never, iter(()))


FORMAT: Final = Format(
    ("/v1/sentry", "/v1/sentry/{key}"),
    "sentry",
    generic.never,
    read=read,
    # An integration that is published repeats what is answered 503 or 504; an internal one repeats nothing.
    answer=answer_each_or_503,
    refuse=refuse_or_503,
)


def _mapped(mapping: Any, given: Any, _body: Json, place: str) -> Item:
    return mapped.item(mapping, _CLIENT, given, place)


def _issue_alert(_given: Any, body: Json, place: str) -> Item:
    event = body["data"]["event"]
    issue = event.get("issue_id") or event.get("groupID")
    if not issue:
        raise invalid(f"{place}.data.event.issue_id", "is missing, so it is not known which issue is meant")
    rule = body["data"].get("triggered_rule")
    alert = AlertInput(
        action=ALERT_ACTION_TRIGGER,
        dedup_key=_issue_key(issue),
        summary=fit.text(event.get("title") or event.get("message") or "an issue without a title", fit.SUMMARY),
        source=fit.text(event.get("culprit") or event.get("project_slug") or event.get("project"), fit.NAME),
        severity=severity_of(event.get("level")),
        client=_CLIENT,
    )
    labels = {**_tags(event.get("tags")), **_present(event, "level", "environment", "platform", "project")}
    if rule:
        labels["rule"] = fit.whole(rule)
    fit.set_labels(alert, labels)
    fit.add_link(alert, event.get("web_url"), "event in Sentry")
    details = _details(event, "event_id", "culprit", "location", "environment", "release", "message", "metadata")
    fit.set_details(alert, details)
    if (time := fit.time(event.get("datetime"))) is not None:
        alert.client_time.CopyFrom(time)
    return Item(alert, labels)


def _issue_over(_given: Any, body: Json, place: str) -> Item:
    issue = body["data"]["issue"]
    if not issue.get("id"):
        raise invalid(f"{place}.data.issue.id", "is missing, so it is not known which issue is meant")
    alert = AlertInput(action=ALERT_ACTION_RESOLVE, dedup_key=_issue_key(issue["id"]), client=_CLIENT)
    return Item(alert)


def _metric_alert(_given: Any, body: Json, place: str) -> Item:
    data = body["data"]
    metric = data["metric_alert"]
    word = fit.whole(body.get("action")).lower()
    action = _METRIC.get(word)
    if action is None:
        shown = fit.text(word, fit.NAME)
        raise invalid(f"{place}.action", f"must be one of {', '.join(_METRIC)}; is {shown!r}")
    if not metric.get("id"):
        raise invalid(f"{place}.data.metric_alert.id", "is missing, so it is not known which alert is meant")
    found = metric.get("alert_rule")
    rule = found if isinstance(found, dict) else {}
    title = data.get("description_title") or metric.get("title") or rule.get("name") or "a metric alert without a title"
    alert = AlertInput(
        action=action,
        dedup_key=fit.key(f"metric/{fit.whole(metric['id'])}", fit.NAME),
        summary=fit.text(title, fit.SUMMARY),
        source=fit.text(rule.get("name") or metric.get("title"), fit.NAME),
        severity=severity_of(word),
        client=_CLIENT,
    )
    labels = {"rule": fit.whole(rule.get("name")), **_present(rule, "environment", "aggregate", "dataset", "query")}
    fit.set_labels(alert, labels)
    fit.add_link(alert, data.get("web_url"), "alert in Sentry")
    fit.set_details(alert, _details(data, "description_text", "description_title"))
    return Item(alert, labels)


def _issue_key(issue: Any) -> str:
    return fit.key(f"issue/{fit.whole(issue)}", fit.NAME)


def _tags(tags: Any) -> dict[str, str]:
    pairs = tags if isinstance(tags, list) else []
    return {fit.whole(each[0]): fit.whole(each[1]) for each in pairs if isinstance(each, list) and len(each) == 2}


def _present(given: Json, *names: str) -> dict[str, str]:
    return {name: fit.whole(given[name]) for name in names if given.get(name)}


def _details(given: Json, *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names if given.get(name)}
