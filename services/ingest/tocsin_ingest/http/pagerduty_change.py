"""PagerDuty's change events: `POST /v2/change/enqueue`, same JSON, same answers; the routing key is an integration key.

A change pages no one. It becomes a note in the timeline of each incident that is open for the integration, so that those who work
on one see what was changed meanwhile. https://developer.pagerduty.com/docs/send-change-event
"""

import json
import uuid
from typing import Any, Final

from aiohttp import web
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_NOTE, AlertInput
from tocsin_kit.errors import FieldViolation, invalid_fields

from tocsin_ingest.http import fit, pagerduty
from tocsin_ingest.http.format import Format, Item, Json
from tocsin_ingest.http.results import Results

_CHANGES: Final = uuid.UUID("5d0a6e0b-6a0e-4d92-8b0e-52b7f4a4f5d1")
"""Namespace of the request ids that are made of changes."""


def check(body: Json) -> dict[str, Any]:
    """Raises INVALID_FIELD also when no incident is open."""
    payload = body.get("payload")
    if not isinstance(payload, dict):
        raise invalid_fields([FieldViolation("payload", pagerduty.MISSING)])
    if not fit.whole(payload.get("summary")).strip():
        raise invalid_fields([FieldViolation("payload.summary", pagerduty.MISSING)])
    return {}


def item(key: Any, body: Json, _place: str) -> Item:
    """The note on the incident of the alert with this key. One that is sent again counts once."""
    payload = body["payload"]
    parts = [f"change: {fit.whole(payload['summary']).strip()}"]
    if payload.get("source"):
        parts.append(f"in {fit.whole(payload['source'])}")
    if payload.get("timestamp"):
        parts.append(f"at {fit.whole(payload['timestamp'])}")
    parts += [fit.whole(link["href"]) for link in pagerduty.objects(body.get("links")) if link.get("href")]
    alert = AlertInput(action=ALERT_ACTION_NOTE, dedup_key=key, summary=fit.text(" ".join(parts), fit.SUMMARY))
    said = json.dumps([key, body.get("routing_key"), alert.summary], sort_keys=True)
    return Item(alert, request_id=str(uuid.uuid5(_CHANGES, said)))


def answer(results: Results) -> web.Response:
    """202, 400, 429 or 5xx, as PagerDuty answers them."""
    if results.errors:
        return pagerduty.refuse(400, results.errors[0][1])
    return web.json_response({"status": "success", "message": "Change event processed"}, status=202)


FORMAT: Final = Format(
    ("/v2/change/enqueue",),
    "pagerduty_change",
    item,
    check=check,
    key=pagerduty.header_key,
    body_key=pagerduty.body_key,
    of_open_incidents=True,
    answer=answer,
    refuse=pagerduty.refuse,
)
