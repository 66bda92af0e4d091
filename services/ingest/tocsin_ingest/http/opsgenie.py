"""Opsgenie's Alert API: create, acknowledge, close, note, and new words, with the same JSON and the same answers.

The API key is an integration key, `Authorization: GenieKey tik_…`. An alert's alias is its dedup key. A new message or description
is a note. What else the API offers (tags, snoozing, reading alerts) belongs to incidents here and is answered 404, in the API's own
form, since its libraries read no other.
https://docs.opsgenie.com/docs/alert-api, https://docs.opsgenie.com/docs/response
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_ACKNOWLEDGE,
    ALERT_ACTION_NOTE,
    ALERT_ACTION_RESOLVE,
    ALERT_ACTION_TRIGGER,
    AlertAction,
    AlertInput,
)
from tocsin.type.v1.severity_pb2 import (
    SEVERITY_CRITICAL,
    SEVERITY_ERROR,
    SEVERITY_INFO,
    SEVERITY_UNSPECIFIED,
    SEVERITY_WARNING,
    Severity,
)
from tocsin_kit.errors import FieldViolation, TocsinError, invalid_fields

from tocsin_ingest.app.alerts.intake_times import THROTTLED
from tocsin_ingest.app.alerts.transient import is_transient
from tocsin_ingest.app.integrations.directory import Routing
from tocsin_ingest.http import fit
from tocsin_ingest.http.documents import Document
from tocsin_ingest.http.format import Format, Item, Json, Reading
from tocsin_ingest.http.results import Results, retry_after

_ALIAS_LENGTH: Final = 255
_NOT_PROCESSABLE: Final = 422
"""The JSON is well formed, and what it says cannot be done."""
_PRIORITIES: Final[Mapping[str, Severity.ValueType]] = {
    "P1": SEVERITY_CRITICAL,
    "P2": SEVERITY_ERROR,
    "P3": SEVERITY_WARNING,
    "P4": SEVERITY_INFO,
    "P5": SEVERITY_INFO,
}
_UPDATES: Final = uuid.UUID("0f8f6c0e-5b53-4d27-9a5e-2b6d8f1c7a41")
"""Namespace of the request ids that are made of new words of an alert."""
_DETAILS: Final = ("description", "details", "tags", "responders", "visibleTo", "actions", "user", "note")
_NOT_HERE: Final = (
    "Tocsin takes POST /v2/alerts, and of an alert POST acknowledge, close and notes, and PUT message and description. What became "
    "of it is told by Tocsin's own calls."
)
_CREDENTIAL: Final = (ErrorReason.ERROR_REASON_CREDENTIAL_MISSING, ErrorReason.ERROR_REASON_CREDENTIAL_INVALID)


def create(_given: Any, body: Json, _place: str) -> Item:
    """A new alert, or one more of those with its alias. Raises INVALID_FIELD naming all that is wrong with it.

    Without a priority it counts as critical, since a page is worth more than its form.
    """
    summary = fit.text(body.get("message"), fit.SUMMARY).strip()
    priority = body.get("priority")
    problems: list[FieldViolation] = []
    if not summary:
        problems.append(FieldViolation("message", "Message can not be empty."))
    if priority is not None and _severity(priority) == SEVERITY_UNSPECIFIED:
        problems.append(FieldViolation("priority", f"Priority must be one of {', '.join(_PRIORITIES)}."))
    if problems:
        raise invalid_fields(problems)
    alert = AlertInput(
        action=ALERT_ACTION_TRIGGER,
        # As there: an alert without an alias is a new one.
        dedup_key=fit.key(body.get("alias"), _ALIAS_LENGTH) or uuid.uuid4().hex,
        summary=summary,
        source=fit.text(body.get("source") or body.get("entity"), fit.NAME),
        severity=_severity(priority),
        client="Opsgenie API",
    )
    labels = _labels(body)
    fit.set_labels(alert, labels)
    fit.set_details(alert, {name: body[name] for name in _DETAILS if body.get(name)})
    return Item(alert, labels)


def note(_given: Any, body: Json, place: str) -> Item:
    """A note in the timeline of the alert's incident. Raises INVALID_FIELD."""
    text = fit.whole(body.get("note")).strip()
    if not text:
        raise invalid_fields([FieldViolation("note", "Note can not be empty.")])
    item = change(ALERT_ACTION_NOTE, _given, body, place)
    item.alert.summary = fit.text(text, fit.SUMMARY)
    return item


def update(field: str, document: Document, routing: Routing) -> Reading:
    """The present text of an alert, as a note; the same text again within 24 hours counts once. No text makes no note.

    Alertmanager (`update_alerts`) sends them with each repeat. If the note were refused, Alertmanager would take the alert itself
    as not sent, and would never resolve it.
    """
    if not fit.whole(document.fields.get(field)).strip():
        return Reading(note, iter(()))
    return Reading(partial(_updated, field, routing.integration_id))


def _updated(field: str, integration_id: str, given: Any, body: Json, place: str) -> Item:
    item = note(given, {**body, "note": f"{field}: {fit.whole(body[field]).strip()}"}, place)
    said = json.dumps([integration_id, item.alert.dedup_key, item.alert.summary])
    return replace(item, request_id=str(uuid.uuid5(_UPDATES, said)))


def change(action: AlertAction.ValueType, _given: Any, body: Json, _place: str) -> Item:
    """An alert that there is already is acknowledged, closed or noted. Raises INVALID_FIELD."""
    if body["identifierType"] == "tiny":
        raise invalid_fields([FieldViolation("identifierType", "There are no tiny ids here: use alias.")])
    alert = AlertInput(action=action, dedup_key=fit.key(body["identifier"], _ALIAS_LENGTH))
    alert.source = fit.text(body.get("source") or body.get("user"), fit.NAME)
    return Item(alert)


def address(request: web.Request) -> Json:
    """Which alert the path and the query mean."""
    return {
        "identifier": request.match_info.get("identifier", ""),
        "identifierType": request.query.get("identifierType", "id"),
    }


def header_key(request: web.Request) -> str:
    """The integration key in `Authorization: GenieKey …`; some senders write Bearer."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme.lower() in ("geniekey", "bearer") else ""


def answer(results: Results) -> web.Response:
    """202, 422, 429 or 5xx, as Opsgenie answers them. Other than there, 202 means that it is committed."""
    if results.errors:
        return refuse(_NOT_PROCESSABLE, results.errors[0][1])
    took = round(time.monotonic() - results.began, 3)
    return _respond(202, {"result": "Request will be processed"}, took=took)


def refuse(status: int, error: TocsinError) -> web.Response:
    """Opsgenie's form of an error: a message, and what is wrong with each field. A body that is no JSON is a 400 there."""
    if error.reason in _CREDENTIAL:
        return _respond(401, {"message": "Could not authenticate"})
    if error.reason in THROTTLED:
        body = {"message": f"You are making too many requests! {error.message}"}
        return _respond(429, body, headers=retry_after(error.retry_after or 1.0))
    if is_transient(error):
        return _respond(503, {"message": error.message}, headers=retry_after(error.retry_after or 1.0))
    fields = {each.field: each.description for each in error.fields}
    if status != _NOT_PROCESSABLE or not fields:
        return _respond(status, {"message": error.message})
    return _respond(status, {"message": "Request body is not processable. Please check the errors.", "errors": fields})


async def not_here(_request: web.Request) -> web.Response:
    """Answers other parts of the API."""
    return _respond(404, {"message": _NOT_HERE})


def _respond(
    status: int, body: dict[str, Any], *, took: float = 0.0, headers: Mapping[str, str] | None = None
) -> web.Response:
    request_id = str(uuid.uuid4())
    headers = {"X-Request-ID": request_id, **(headers or {})}
    return web.json_response({**body, "took": took, "requestId": request_id}, status=status, headers=headers)


def _severity(priority: Any) -> Severity.ValueType:
    given = priority.strip().upper() if isinstance(priority, str) else ""
    return _PRIORITIES.get(given, SEVERITY_UNSPECIFIED)


def _labels(body: Json) -> dict[str, str]:
    """What alerts are routed by: the details, the entity, and the tags in one label."""
    details, tags = body.get("details"), body.get("tags")
    labels: dict[str, str] = {}
    if isinstance(details, dict):
        fit.require_few(details)
        labels = {name: fit.whole(value) for name, value in details.items()}
    if isinstance(tags, list):
        fit.require_few(tags, "tags")
        labels["tags"] = ",".join(map(fit.whole, tags))
    if body.get("entity"):
        labels["entity"] = fit.whole(body["entity"])
    return labels


def _format(path: str, name: str, item: Callable[[Any, Json, str], Item], *, may_be_empty: bool = False) -> Format:
    return Format(
        (path,),
        name,
        item,
        key=header_key,
        answer=answer,
        refuse=refuse,
        outside_body=address,
        may_be_empty=may_be_empty,
    )


def _change(name: str, action: AlertAction.ValueType) -> Format:
    path = "/v2/alerts/{identifier}/" + name
    return _format(path, f"opsgenie_{name}", partial(change, action), may_be_empty=True)


def _update(field: str) -> Format:
    made = _format("/v2/alerts/{identifier}/" + field, f"opsgenie_{field}", note)
    return replace(made, method="PUT", read=partial(update, field))


FORMATS: Final = (
    _format("/v2/alerts", "opsgenie", create),
    _format("/v2/alerts/{identifier}/notes", "opsgenie_note", note),
    _change("acknowledge", ALERT_ACTION_ACKNOWLEDGE),
    _change("close", ALERT_ACTION_RESOLVE),
    _update("message"),
    _update("description"),
)

OTHERS: Final = tuple(web.route("*", path, not_here) for path in ("/v2/alerts", "/v2/alerts/{rest:.*}"))
"""Behind the others in the order of routes."""
