"""PagerDuty Events API v2: `POST /v2/enqueue`, same JSON, same answers; the routing key is an integration key.

https://developer.pagerduty.com/docs/events-api-v2/overview/
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_ACKNOWLEDGE,
    ALERT_ACTION_RESOLVE,
    ALERT_ACTION_TRIGGER,
    ALERT_ACTION_UNSPECIFIED,
    AlertAction,
    AlertInput,
)
from tocsin_kit.errors import FieldViolation, TocsinError, invalid_fields

from tocsin_ingest.app.alerts.intake_times import THROTTLED
from tocsin_ingest.app.alerts.transient import is_transient
from tocsin_ingest.http import fit
from tocsin_ingest.http.format import Format, Item, Json
from tocsin_ingest.http.results import Results, retry_after
from tocsin_ingest.http.severities import severity_of

_ACTIONS: Final[Mapping[str, AlertAction.ValueType]] = {
    "trigger": ALERT_ACTION_TRIGGER,
    "acknowledge": ALERT_ACTION_ACKNOWLEDGE,
    "resolve": ALERT_ACTION_RESOLVE,
}
_LABELS: Final = ("component", "group", "class")
_KEY_LENGTH: Final = 255
MISSING: Final = "is missing or blank"


def item(_given: Any, body: Json, _place: str) -> Item:
    """One event. Raises INVALID_FIELD naming all that is wrong with it.

    It accepts more than PagerDuty does, since a page is worth more than its form: any case of an action or severity, numbers as
    text, no source, a severity that PagerDuty does not know.
    """
    problems: list[FieldViolation] = []
    action = action_of(body, "event_action", problems)
    alert = AlertInput(action=action, dedup_key=key_of(body, "dedup_key", action, problems))
    payload = body.get("payload")
    if action == ALERT_ACTION_TRIGGER and not isinstance(payload, dict):
        problems.append(FieldViolation("payload", MISSING))
    labels = _read_payload(alert, payload, problems) if isinstance(payload, dict) else None
    add_client(alert, body)
    for link in objects(body.get("links")):
        fit.add_link(alert, link.get("href"), link.get("text"))
    for image in objects(body.get("images")):
        add_image(alert, image)
    if problems:
        raise invalid_fields(problems)
    return Item(alert, labels)


def no_header_key(_request: web.Request) -> str:
    """The key is in the body alone."""
    return ""


def header_key(request: web.Request) -> str:
    """The routing key, of clients that do not put it into the body."""
    return request.headers.get("X-Routing-Key", "")


def body_key(body: Json) -> str:
    """The routing key."""
    key = body.get("routing_key")
    return key if isinstance(key, str) else ""


def answer(results: Results) -> web.Response:
    """202, 400, 429 or 5xx, as PagerDuty answers them."""
    if results.errors:
        return refuse(400, results.errors[0][1])
    assert results.first is not None
    return web.json_response(
        {"status": "success", "message": "Event processed", "dedup_key": results.first.dedup_key}, status=202
    )


def refuse(status: int, error: TocsinError, *, key: str = "routing_key") -> web.Response:
    """PagerDuty has one shape for every event that is refused, a bad key among them. `key`: the field that holds it."""
    if error.reason in THROTTLED:
        body = {"status": "throttle exceeded", "message": error.message}
        return web.json_response(body, status=429, headers=retry_after(error.retry_after or 1.0))
    if is_transient(error):
        headers = retry_after(error.retry_after or 1.0)
        return web.json_response({"status": "error", "message": error.message}, status=503, headers=headers)
    errors = [f"'{each.field}' {each.description}" for each in error.fields] or [error.message]
    if error.reason == ErrorReason.ERROR_REASON_CREDENTIAL_MISSING:
        status, errors = 400, [f"'{key}' {MISSING}"]
    elif error.reason == ErrorReason.ERROR_REASON_CREDENTIAL_INVALID:
        # With a header in the metadata the key is right, and its integration asks for a signature.
        problem = f"'{key}' is not a key of an integration, or was rotated; create or rotate one to get a new key"
        status, errors = 400, [error.message if "header" in error.metadata else problem]
    return web.json_response(
        {"status": "invalid event", "message": "Event object is invalid", "errors": errors}, status=status
    )


FORMAT: Final = Format(
    ("/v2/enqueue", "/v1/enqueue"),
    "pagerduty",
    item,
    key=header_key,
    body_key=body_key,
    known_by_bytes=True,
    answer=answer,
    refuse=refuse,
)


def action_of(body: Json, field: str, problems: list[FieldViolation]) -> AlertAction.ValueType:
    """What the event wants."""
    given = body.get(field)
    if given is None or given == "":
        problems.append(FieldViolation(field, MISSING))
        return ALERT_ACTION_UNSPECIFIED
    found = _ACTIONS.get(given.strip().lower()) if isinstance(given, str) else None
    if found is None:
        problems.append(FieldViolation(field, f"is invalid; must be one of {', '.join(_ACTIONS)}"))
    return found or ALERT_ACTION_UNSPECIFIED


def key_of(body: Json, field: str, action: AlertAction.ValueType, problems: list[FieldViolation]) -> str:
    """The dedup key; of one beyond the contract's length, its hash."""
    given = body.get(field)
    if given is None or given == "":
        if action == ALERT_ACTION_TRIGGER:
            # As PagerDuty does: an event without a key is a new alert, and its key is in the answer.
            return uuid.uuid4().hex
        if action in (ALERT_ACTION_ACKNOWLEDGE, ALERT_ACTION_RESOLVE):
            problems.append(FieldViolation(field, f"{MISSING}; it is required to acknowledge or resolve"))
        return ""
    return fit.key(given, _KEY_LENGTH)


def add_client(alert: AlertInput, body: Json) -> None:
    """The sending program and its link."""
    alert.client = fit.text(body.get("client"), fit.NAME)
    fit.add_link(alert, body.get("client_url"), body.get("client") or "client")


def add_image(alert: AlertInput, image: Json) -> None:
    """Where the image is, and what it leads to."""
    for field in ("src", "href"):
        fit.add_link(alert, image.get(field), image.get("alt") or "image")


def objects(value: Any) -> list[Json]:
    """The objects of a list; anything else is left out."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _read_payload(alert: AlertInput, payload: Json, problems: list[FieldViolation]) -> dict[str, str]:
    alert.summary = fit.text(payload.get("summary"), fit.SUMMARY).strip()
    if not alert.summary and alert.action == ALERT_ACTION_TRIGGER:
        problems.append(FieldViolation("payload.summary", MISSING))
    alert.source = fit.text(payload.get("source"), fit.NAME).strip()
    alert.severity = severity_of(payload.get("severity"))
    labels = {name: fit.whole(payload[name]) for name in _LABELS if payload.get(name)}
    fit.set_labels(alert, labels)
    details = payload.get("custom_details")
    fit.set_details(alert, details if isinstance(details, dict) else {"details": details} if details else {})
    if (time := fit.time(payload.get("timestamp"))) is not None:
        alert.client_time.CopyFrom(time)
    return labels
