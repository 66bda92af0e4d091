"""Alertmanager's webhook, version 4: `POST /v1/alertmanager`. Grafana's has the same form, and is understood here as well.

The integration key is a bearer token or the end of the path.
https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_RESOLVE, ALERT_ACTION_TRIGGER, AlertInput
from tocsin_kit.errors import invalid
from tocsin_kit.logging import get_logger

from tocsin_ingest.domain.fingerprint import fingerprint
from tocsin_ingest.http import fit
from tocsin_ingest.http.format import Format, Item, Json
from tocsin_ingest.http.results import answer_each_or_503, refuse_or_503
from tocsin_ingest.http.severities import severity_of

_log = get_logger(__name__)

_VERSIONS: Final = {"4": "Alertmanager", "1": "Grafana"}
_ACTIONS: Final = {"firing": ALERT_ACTION_TRIGGER, "resolved": ALERT_ACTION_RESOLVE}
KEY_LENGTH: Final = 255
"""Characters of a dedup key."""


def check(body: Json) -> dict[str, Any]:
    """The answer's notes. An unknown version is tried: a page is worth more than its form."""
    if fit.whole(body.get("version")) not in _VERSIONS:
        _log.warning("webhook_version_unknown", version=fit.text(body.get("version"), fit.NAME))
    truncated = body.get("truncatedAlerts")
    if isinstance(truncated, int) and truncated > 0:
        # These alerts are lost to all behind Alertmanager; raise max_alerts or group by more labels.
        _log.warning("alertmanager_truncated", alerts=truncated, group_key=fit.text(body.get("groupKey"), fit.NAME))
        return {"truncated_alerts": truncated}
    return {}


def item(given: Any, body: Json, place: str) -> Item:
    """One alert of the group, by its own fingerprint."""
    if not isinstance(given, dict):
        raise invalid(place, "must be an object")
    labels, annotations = texts(given.get("labels")), texts(given.get("annotations"))
    key = fit.whole(given.get("fingerprint"))
    if not key and not labels:
        raise invalid(place, "has neither a fingerprint nor labels, so it cannot be told from others")
    status = fit.whole(given.get("status") or body.get("status"))
    if status.lower() not in _ACTIONS:
        raise invalid(f"{place}.status", f"must be firing or resolved; is {fit.text(status, fit.NAME)!r}")
    alert = AlertInput(
        action=_ACTIONS[status.lower()],
        dedup_key=fit.key(key or fingerprint(labels, "", ""), KEY_LENGTH),
        summary=fit.text(summary_of(labels, annotations), fit.SUMMARY),
        source=fit.text(labels.get("instance") or labels.get("job") or labels.get("alertname"), fit.NAME),
        severity=severity_of(labels.get("severity")),
        client=_VERSIONS.get(fit.whole(body.get("version")), "Alertmanager"),
    )
    fit.set_labels(alert, labels)
    add_links(alert, given, annotations, body)
    fit.set_details(alert, _details(given, annotations, body))
    starts, ends = fit.time(given.get("startsAt")), fit.time(given.get("endsAt"))
    if starts is not None:
        alert.client_time.CopyFrom(starts)
    return Item(alert, labels, moment(starts), moment(ends))


_DETAILS: Final = ("receiver", "groupKey", "groupLabels", "truncatedAlerts")
READ_WITH: Final = ("status", "version", "externalURL", *_DETAILS)

FORMAT: Final = Format(
    *(("/v1/alertmanager", "/v1/alertmanager/{key}"), "alertmanager", item),
    list_field="alerts",
    check=check,
    read_with=READ_WITH,
    answer=answer_each_or_503,
    refuse=refuse_or_503,
)


def moment(stamp: Timestamp | None) -> datetime | None:
    """The time as Python has it."""
    return None if stamp is None else stamp.ToDatetime(tzinfo=UTC)


def summary_of(labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """What the alert is about, in its own words or by its name."""
    rule = labels.get("rulename")
    if rule:
        # Grafana's: its annotations are those of the rule, and can describe values that were not measured at all.
        match labels.get("alertname"):
            case "DatasourceNoData":
                return f"no data for the rule {rule}"
            case "DatasourceError":
                return (
                    f"the rule {rule} cannot be evaluated: {annotations.get('Error') or 'its data source has failed'}"
                )
    for name in ("summary", "title", "message", "description"):
        if annotations.get(name, "").strip():
            return annotations[name]
    name, instance = labels.get("alertname", "alert without a name"), labels.get("instance")
    return f"{name} on {instance}" if instance else name


def add_links(alert: AlertInput, given: Json, annotations: Mapping[str, str], body: Json) -> None:
    """What the annotations and the alert's own fields link to."""
    for name in ("runbook_url", "runbook", "dashboard_url", "dashboard"):
        fit.add_link(alert, annotations.get(name), name.removesuffix("_url"))
    fit.add_link(alert, given.get("generatorURL"), "source of the alert")
    for name in ("dashboardURL", "panelURL", "silenceURL", "imageURL"):  # Grafana's
        fit.add_link(alert, given.get(name), name.removesuffix("URL"))
    fit.add_link(alert, body.get("externalURL"), alert.client)


def _details(given: Json, annotations: Mapping[str, str], body: Json) -> dict[str, Any]:
    return {
        "annotations": dict(annotations),
        **{name: given[name] for name in ("startsAt", "endsAt", "values", "valueString") if given.get(name)},
        **{name: body[name] for name in _DETAILS if body.get(name)},
    }


def texts(value: Any) -> dict[str, str]:
    """Labels or annotations; none of a value that is no object. Raises INVALID_FIELD for more than an alert may have."""
    if not isinstance(value, dict):
        return {}
    fit.require_few(value)
    return {name: fit.whole(each) for name, each in value.items()}
