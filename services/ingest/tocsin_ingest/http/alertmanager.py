"""Alertmanager's webhook, version 4: `POST /v1/alertmanager`, the integration key as bearer token or in the path.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from collections.abc import Mapping
from typing import Any, Final

from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER, AlertInput
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_INFO, SEVERITY_WARNING, Severity
from tocsin_kit.errors import invalid
from tocsin_kit.logging import get_logger

from tocsin_ingest.http import fit
from tocsin_ingest.http.format import Format, Item, Json, Payload

_log = get_logger(__name__)

_VERSION: Final = "4"
_ACTIONS: Final = {"firing": ALERT_ACTION_TRIGGER, "resolved": ALERT_ACTION_RESOLVE}
# Alertmanager has no severities of its own; these are what people put into the label.
_SEVERITIES: Final[Mapping[str, Severity.ValueType]] = {
    "critical": SEVERITY_CRITICAL,
    "page": SEVERITY_CRITICAL,
    "emergency": SEVERITY_CRITICAL,
    "error": SEVERITY_ERROR,
    "high": SEVERITY_ERROR,
    "major": SEVERITY_ERROR,
    "warning": SEVERITY_WARNING,
    "warn": SEVERITY_WARNING,
    "minor": SEVERITY_WARNING,
    "info": SEVERITY_INFO,
    "informational": SEVERITY_INFO,
    "none": SEVERITY_INFO,
}
_KEY_LENGTH: Final = 255


def decode(body: Json) -> Payload:
    """Every alert of the group by its own fingerprint, the resolved ones too. A bad one does not spoil the others."""
    version = body.get("version")
    if version != _VERSION:
        raise invalid("version", f'must be "{_VERSION}", the webhook of Alertmanager; is {version!r}')
    alerts = body.get("alerts")
    if not isinstance(alerts, list):
        raise invalid("alerts", "must be a list of alerts")
    truncated = body.get("truncatedAlerts")
    notes: dict[str, Any] = {}
    if isinstance(truncated, int) and truncated > 0:
        # They are lost to everyone behind Alertmanager; raise max_alerts or group by more labels.
        _log.warning("alertmanager_truncated", alerts=truncated, group_key=fit.text(body.get("groupKey"), fit.NAME))
        notes["truncated_alerts"] = truncated
    return Payload([_item(index, alert, body) for index, alert in enumerate(alerts)], notes)


FORMAT: Final = Format(("/v1/alertmanager", "/v1/alertmanager/{key}"), decode)


def _item(index: int, given: Any, body: Json) -> Item:
    place = f"alerts[{index}]"
    if not isinstance(given, dict):
        return Item(place, invalid(place, "must be an object"))
    labels, annotations = _texts(given.get("labels")), _texts(given.get("annotations"))
    fingerprint = given.get("fingerprint") or ""
    if not isinstance(fingerprint, str) or len(fingerprint) > _KEY_LENGTH:
        return Item(place, invalid(f"{place}.fingerprint", f"must be text of at most {_KEY_LENGTH} characters"))
    if not fingerprint and not labels:
        return Item(place, invalid(place, "has neither a fingerprint nor labels, so it cannot be told from others"))
    status = given.get("status")
    if status not in _ACTIONS:
        return Item(place, invalid(f"{place}.status", f"must be firing or resolved; is {status!r}"))
    alert = AlertInput(
        action=_ACTIONS[status],
        dedup_key=fit.text(fingerprint, _KEY_LENGTH),
        summary=fit.text(_summary(labels, annotations), fit.SUMMARY),
        source=fit.text(labels.get("instance") or labels.get("job") or labels.get("alertname"), fit.NAME),
        severity=_SEVERITIES.get(labels.get("severity", "").lower(), Severity.SEVERITY_UNSPECIFIED),
        client="Alertmanager",
    )
    fit.set_labels(alert, labels)
    _add_links(alert, given, annotations, body)
    fit.set_details(alert, _details(given, annotations, body))
    if (time := fit.time(given.get("startsAt"))) is not None:
        alert.client_time.CopyFrom(time)
    return Item(place, alert)


def _summary(labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    for name in ("summary", "title", "message", "description"):
        if annotations.get(name, "").strip():
            return annotations[name]
    name, instance = labels.get("alertname", "alert without a name"), labels.get("instance")
    return f"{name} on {instance}" if instance else name


def _add_links(alert: AlertInput, given: Json, annotations: Mapping[str, str], body: Json) -> None:
    for name in ("runbook_url", "runbook", "dashboard_url", "dashboard"):
        fit.add_link(alert, annotations.get(name), name.removesuffix("_url"))
    fit.add_link(alert, given.get("generatorURL"), "source of the alert")
    fit.add_link(alert, body.get("externalURL"), "Alertmanager")


def _details(given: Json, annotations: Mapping[str, str], body: Json) -> dict[str, Any]:
    return {
        "annotations": dict(annotations),
        **{name: given[name] for name in ("startsAt", "endsAt") if given.get(name)},
        **{name: body[name] for name in ("receiver", "groupKey", "groupLabels", "truncatedAlerts") if body.get(name)},
    }


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {name: each if isinstance(each, str) else fit.text(each, fit.LABEL_VALUE) for name, each in value.items()}
