"""Alertmanager's API, version 2: `POST /api/v2/alerts`, as Prometheus and other rulers post to an Alertmanager.

The integration key is a bearer token, the password of basic authentication, or in the path prefix. An alert whose `endsAt` is not
after the time at which it comes is resolved. Another one is resolved at its `endsAt` unless it is sent again, and without an
`endsAt` five minutes after it came.
https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from aiohttp import web
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_TRIGGER, AlertInput
from tocsin_kit.errors import TocsinError, invalid

from tocsin_ingest.app.alerts.intake_times import THROTTLED
from tocsin_ingest.app.alerts.transient import is_transient
from tocsin_ingest.domain.expiry import Expiry
from tocsin_ingest.domain.fingerprint import fingerprint, prometheus_fingerprint
from tocsin_ingest.http import fit
from tocsin_ingest.http.alertmanager import KEY_LENGTH, add_links, moment, summary_of, texts
from tocsin_ingest.http.documents import Outer
from tocsin_ingest.http.format import Format, Item, Json
from tocsin_ingest.http.results import Results, retry_after
from tocsin_ingest.http.severities import severity_of

RESOLVE_TIMEOUT: Final = timedelta(minutes=5)
"""The default of Alertmanager's `resolve_timeout`."""
_HASHED: Final = 16 << 10
"""Characters of labels up to which the key is Prometheus' own: its hash costs 0.1 µs a byte."""
_NO_TIME: Final = "0001-01-01T00:00:00"
"""What a Go program writes for a time that is not set."""


def item(given: Any, _body: Json, place: str) -> Item:
    """One alert, by its label set and never by its text."""
    if not isinstance(given, dict):
        raise invalid(place, "must be an object")
    # An empty label is the same as none: https://prometheus.io/docs/concepts/data_model/
    labels = {name: value for name, value in texts(given.get("labels")).items() if value}
    if not labels:
        raise invalid(f"{place}.labels", "at least one label pair required")
    annotations = texts(given.get("annotations"))
    starts, ends = fit.time(given.get("startsAt")), fit.time(given.get("endsAt"))
    if ends is None and not _unset(given.get("endsAt")):
        # An alert that is over must not page as one that is not.
        raise invalid(
            f"{place}.endsAt", f"must be a time as in RFC 3339, and is {fit.text(given['endsAt'], fit.NAME)!r}"
        )
    started, ended = moment(starts), moment(ends)
    if started is not None and ended is not None and ended < started:
        raise invalid(f"{place}.endsAt", "start time must be before end time")
    alert = AlertInput(
        action=ALERT_ACTION_TRIGGER,
        dedup_key=fit.key(_key(labels), KEY_LENGTH),
        summary=fit.text(summary_of(labels, annotations), fit.SUMMARY),
        source=fit.text(labels.get("instance") or labels.get("job") or labels.get("alertname"), fit.NAME),
        severity=severity_of(labels.get("severity")),
        client="Prometheus",
    )
    fit.set_labels(alert, labels)
    add_links(alert, given, annotations, {})
    # Not endsAt, which moves with each repeat.
    fit.set_details(alert, {"annotations": annotations, **{name: given[name] for name in ("startsAt",) if starts}})
    if starts is not None:
        alert.client_time.CopyFrom(starts)
    return Item(alert, labels, started, expiry=Expiry(at=ended) if ended else Expiry(after=RESOLVE_TIMEOUT))


def answer(results: Results) -> web.Response:
    """200 with nothing, or a text as a JSON string; what could be taken is taken. 429 or 5xx when a repeat can help."""
    if not results.errors:
        return web.Response(status=200)
    transient = next((error for _, error in results.errors if is_transient(error)), None)
    if transient is not None or results.delayed:
        status = 429 if transient is not None and transient.reason in THROTTLED else 503
        return web.json_response(_told(results), status=status, headers=retry_after(results.wait))
    return web.json_response(_told(results), status=400)


def refuse(status: int, error: TocsinError) -> web.Response:
    """A code and a message."""
    if error.reason in THROTTLED:
        status = 429
    headers = retry_after(error.retry_after or 1.0) if is_transient(error) else None
    return web.json_response({"code": status, "message": error.message}, status=status, headers=headers)


FORMAT: Final = Format(
    ("/api/v2/alerts", "/v1/alertmanager/{key}/api/v2/alerts"),
    "alertmanager_v2",
    item,
    outer=Outer.LIST,
    answer=answer,
    refuse=refuse,
    read_with=(),
)


def _told(results: Results) -> str:
    more = results.refused + results.delayed - len(results.errors)
    told = [error.message for _, error in results.errors]
    return "; ".join(told + [f"and {more} more"] * (more > 0))


def _key(labels: Mapping[str, str]) -> str:
    if sum(len(name) + len(value) for name, value in labels.items()) > _HASHED:
        return fingerprint(labels, "", "")
    return prometheus_fingerprint(labels)


def _unset(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, str) and value.startswith(_NO_TIME))
