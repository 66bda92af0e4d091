"""PagerDuty Events API v2: `POST /v2/enqueue`, same JSON, same answers; the routing key is an integration key.

https://developer.pagerduty.com/docs/events-api-v2/overview/
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_ACKNOWLEDGE,
    ALERT_ACTION_RESOLVE,
    ALERT_ACTION_TRIGGER,
    AlertAction,
    AlertInput,
)
from tocsin.type.v1.severity_pb2 import (
    SEVERITY_CRITICAL,
    SEVERITY_ERROR,
    SEVERITY_INFO,
    SEVERITY_WARNING,
    Severity,
)
from tocsin_kit.errors import FieldViolation, TocsinError, invalid_fields

from tocsin_ingest.http import fit
from tocsin_ingest.http.format import Answer, Format, Item, Json, Payload, is_transient, retry_after

_ACTIONS: Final[Mapping[str, AlertAction.ValueType]] = {
    "trigger": ALERT_ACTION_TRIGGER,
    "acknowledge": ALERT_ACTION_ACKNOWLEDGE,
    "resolve": ALERT_ACTION_RESOLVE,
}
_SEVERITIES: Final[Mapping[str, Severity.ValueType]] = {
    "critical": SEVERITY_CRITICAL,
    "error": SEVERITY_ERROR,
    "warning": SEVERITY_WARNING,
    "info": SEVERITY_INFO,
}
_LABELS: Final = ("component", "group", "class")
_KEY_LENGTH: Final = 255
_MISSING: Final = "is missing or blank"
_THROTTLED: Final = (ErrorReason.ERROR_REASON_RATE_LIMITED, ErrorReason.ERROR_REASON_OVERLOADED)


def decode(body: Json) -> Payload:
    """One event. Raises INVALID_FIELD naming all that is wrong with it."""
    problems: list[FieldViolation] = []
    action = _choice(body.get("event_action"), _ACTIONS, "event_action", problems)
    alert = AlertInput(action=action, dedup_key=_dedup_key(body, action, problems))
    payload = body.get("payload")
    if action == ALERT_ACTION_TRIGGER and not isinstance(payload, dict):
        problems.append(FieldViolation("payload", _MISSING))
    if isinstance(payload, dict):
        _read_payload(alert, payload, problems if action == ALERT_ACTION_TRIGGER else [])
    _read_around(alert, body)
    if problems:
        raise invalid_fields(problems)
    return Payload((Item("event", alert),))


def key(request: web.Request, body: Json) -> str:
    """The routing key: in the body, or in the header PagerDuty takes it from as well."""
    routing_key = body.get("routing_key") or request.headers.get("X-Routing-Key", "")
    return routing_key if isinstance(routing_key, str) else ""


def answer(_payload: Payload, answers: Sequence[Answer]) -> web.Response:
    """202, 400, 429 or 5xx, as PagerDuty answers them."""
    taken = answers[0]
    if isinstance(taken, TocsinError):
        return refuse(400, taken)
    return web.json_response(
        {"status": "success", "message": "Event processed", "dedup_key": taken.dedup_key}, status=202
    )


def refuse(status: int, error: TocsinError) -> web.Response:
    """PagerDuty has one shape for every event that is refused, a bad key among them."""
    if error.reason in _THROTTLED:
        body = {"status": "throttle exceeded", "message": error.message}
        return web.json_response(body, status=429, headers=retry_after(error.retry_after or 1.0))
    if is_transient(error):
        headers = retry_after(error.retry_after or 1.0)
        return web.json_response({"status": "error", "message": error.message}, status=503, headers=headers)
    errors = [f"'{each.field}' {each.description}" for each in error.fields] or [error.message]
    if error.reason in (ErrorReason.ERROR_REASON_CREDENTIAL_MISSING, ErrorReason.ERROR_REASON_CREDENTIAL_INVALID):
        errors = [
            f"'routing_key' {_MISSING}"
            if error.reason == ErrorReason.ERROR_REASON_CREDENTIAL_MISSING
            else "'routing_key' is not a key of an integration, or was rotated; create or rotate one to get a new key"
        ]
        status = 400
    return web.json_response(
        {"status": "invalid event", "message": "Event object is invalid", "errors": errors}, status=status
    )


FORMAT: Final = Format(("/v2/enqueue",), decode, key, answer, refuse)


def _dedup_key(body: Json, action: int, problems: list[FieldViolation]) -> str:
    given = body.get("dedup_key")
    if given is None or given == "":
        if action == ALERT_ACTION_TRIGGER:
            # As PagerDuty does: an event without a key is a new alert, and its key is in the answer.
            return uuid.uuid4().hex
        if action in (ALERT_ACTION_ACKNOWLEDGE, ALERT_ACTION_RESOLVE):
            problems.append(FieldViolation("dedup_key", f"{_MISSING}; it is required to acknowledge or resolve"))
        return ""
    if not isinstance(given, str) or len(given) > _KEY_LENGTH:
        problems.append(FieldViolation("dedup_key", f"must be text of at most {_KEY_LENGTH} characters"))
        return ""
    return fit.text(given, _KEY_LENGTH)


def _read_payload(alert: AlertInput, payload: Json, problems: list[FieldViolation]) -> None:
    for name in ("summary", "source"):
        value = payload.get(name)
        if not isinstance(value, str) or not value.strip():
            problems.append(FieldViolation(f"payload.{name}", _MISSING))
    alert.summary = fit.text(payload.get("summary"), fit.SUMMARY)
    alert.source = fit.text(payload.get("source"), fit.NAME)
    alert.severity = _choice(payload.get("severity"), _SEVERITIES, "payload.severity", problems)
    fit.set_labels(alert, {name: payload[name] for name in _LABELS if payload.get(name)})
    details = payload.get("custom_details")
    fit.set_details(alert, details if isinstance(details, dict) else {"details": details} if details else {})
    if (time := fit.time(payload.get("timestamp"))) is not None:
        alert.client_time.CopyFrom(time)


def _read_around(alert: AlertInput, body: Json) -> None:
    alert.client = fit.text(body.get("client"), fit.NAME)
    fit.add_link(alert, body.get("client_url"), body.get("client") or "client")
    for link in _objects(body.get("links")):
        fit.add_link(alert, link.get("href"), link.get("text"))
    for image in _objects(body.get("images")):
        fit.add_link(alert, image.get("href") or image.get("src"), image.get("alt") or "image")


def _choice(value: Any, choices: Mapping[str, Any], field: str, problems: list[FieldViolation]) -> Any:
    found = choices.get(value) if isinstance(value, str) else None
    if found is not None:
        return found
    if value is None or value == "":
        problems.append(FieldViolation(field, _MISSING))
    else:
        problems.append(FieldViolation(field, f"is invalid; must be one of {', '.join(choices)}"))
    return 0


def _objects(value: Any) -> list[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
