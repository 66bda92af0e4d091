"""PagerDuty Events API v1: `POST /generic/2010-04-15/create_event.json`; the service key is an integration key.

https://developer.pagerduty.com/docs/events-api-v1-overview
"""

from functools import partial
from typing import Any, Final

from aiohttp import web
from tocsin.ingest.v1.alert_pb2 import ALERT_ACTION_TRIGGER, AlertInput
from tocsin_kit.errors import FieldViolation, invalid_fields

from tocsin_ingest.http import fit, pagerduty
from tocsin_ingest.http.format import Format, Item, Json
from tocsin_ingest.http.results import Results


def item(_given: Any, body: Json, _place: str) -> Item:
    """One event. Raises INVALID_FIELD naming all that is wrong with it."""
    problems: list[FieldViolation] = []
    action = pagerduty.action_of(body, "event_type", problems)
    alert = AlertInput(action=action, dedup_key=pagerduty.key_of(body, "incident_key", action, problems))
    if action == ALERT_ACTION_TRIGGER:
        alert.summary = fit.text(body.get("description"), fit.SUMMARY).strip()
        if not alert.summary:
            problems.append(FieldViolation("description", pagerduty.MISSING))
        alert.source = fit.text(body.get("client"), fit.NAME)
        details = body.get("details")
        fit.set_details(alert, details if isinstance(details, dict) else {"details": details} if details else {})
        pagerduty.add_client(alert, body)
        for context in pagerduty.objects(body.get("contexts")):
            if context.get("src"):
                pagerduty.add_image(alert, context)
            else:
                fit.add_link(alert, context.get("href"), context.get("text"))
    if problems:
        raise invalid_fields(problems)
    return Item(alert)


def body_key(body: Json) -> str:
    """The service key."""
    key = body.get("service_key")
    return key if isinstance(key, str) else ""


def answer(results: Results) -> web.Response:
    """200, 400, 403 or 5xx, as PagerDuty answers them."""
    if results.errors:
        return refuse(400, results.errors[0][1])
    assert results.first is not None
    return web.json_response(
        {"status": "success", "message": "Event processed", "incident_key": results.first.dedup_key}
    )


refuse: Final = partial(pagerduty.refuse, key="service_key")

FORMAT: Final = Format(
    ("/generic/2010-04-15/create_event.json",),
    "pagerduty_v1",
    item,
    key=pagerduty.no_header_key,
    body_key=body_key,
    known_by_bytes=True,
    answer=answer,
    refuse=refuse,
)
