"""The parts of a format, and functions that most formats share."""

import base64
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_kit.errors import TocsinError
from tocsin_kit.http import error_response, http_status

from tocsin_ingest.app.alerts.intake_times import THROTTLED
from tocsin_ingest.app.alerts.send_alert import AlertRequest
from tocsin_ingest.app.integrations.directory import Routing
from tocsin_ingest.domain.expiry import Expiry
from tocsin_ingest.http.documents import Document, Outer
from tocsin_ingest.http.fetcher import Fetcher

Json = Mapping[str, Any]
Answer = bytes | TocsinError
"""The result of one alert: a serialized SendAlertResponse, or the error."""

_PERMANENT: Final = 500
_TRANSIENT: Final = (*THROTTLED, ErrorReason.ERROR_REASON_CONFLICT)
MAX_ERRORS: Final = 50
"""In one answer; the others are counted."""


@dataclass(frozen=True, slots=True)
class Item:
    """One alert as its sender described it.

    `labels`: as they came, where `alert` may hold them shortened; they decide which alert it is and how it is routed.
    `started`, `ended`: when this firing began and ended by the sender's clock, of senders that tell. `expiry`: when it is over
    unless it is sent again. `request_id`: a UUID by which the same alert is known when it comes once more within 24 hours.
    """

    alert: AlertInput
    labels: Mapping[str, str] | None = None
    started: datetime | None = None
    ended: datetime | None = None
    expiry: Expiry | None = None
    request_id: str = ""


@dataclass(slots=True)
class Results:
    """The results of the alerts of one body. `notes` go into the answer as they are."""

    notes: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    """When the work on them began, by the monotonic clock."""
    accepted: int = 0
    first: SendAlertResponse | None = None
    refused: int = 0
    """Refused for good: a repeat would be refused too."""
    delayed: int = 0
    """Not accepted now; a repeat can help."""
    limited: int = 0
    """Of these, those that a limit or a full queue refused."""
    wait: float = 0.0
    """Seconds until a repeat can help."""
    errors: list[tuple[str, TocsinError]] = field(default_factory=list)
    """Place and error of the first `MAX_ERRORS` that were not accepted."""
    refusal: TocsinError | None = None
    """Why the first that was refused for good was refused."""
    sent: AlertRequest | None = None
    """The alert that the whole body is, of formats with `of_body`, once it is committed."""

    def add(self, place: str, answer: Answer) -> None:
        """One alert's answer. `place` tells the sender which alert: `alerts[3]`."""
        if isinstance(answer, bytes):
            self.accepted += 1
            if self.first is None:
                self.first = SendAlertResponse.FromString(answer)
            return
        if is_transient(answer):
            self.delayed += 1
            self.limited += answer.reason in THROTTLED
            self.wait = max(self.wait, answer.retry_after or 1.0)
        else:
            self.refused += 1
            self.refusal = self.refusal or answer
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((place, answer))


def header_or_path_key(request: web.Request) -> str:
    """The integration key; empty when there is none.

    In `Authorization: Bearer …`, as the password of `Authorization: Basic …` (or its user name when the password is empty; RFC
    7617), or in the path.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return token
        case "basic":
            return _basic_key(token)
    return request.match_info.get("key", "")


def _basic_key(token: str) -> str:
    try:
        pair = base64.b64decode(token.strip()).decode()
    except ValueError:
        return token  # of no integration: answered as a wrong key, not as a missing one
    user, _, password = pair.partition(":")
    return password or user


def no_key(_body: Json) -> str:
    """For formats whose bodies hold no key."""
    return ""


def answer_each(results: Results, *, limited: int = 429) -> web.Response:
    """200 once all are committed. Otherwise the other alerts are still committed, and the answer names those that are not.

    503 when a repeat can help, or `limited` when only limits are the cause; senders may repeat everything, as committed alerts
    are only counted once more. 400 when it cannot.
    """
    body: dict[str, Any] = {**results.notes, "accepted": results.accepted}
    failed = results.refused + results.delayed
    if not failed:
        return web.json_response({"status": "success", **body})
    body |= {
        "status": "partial" if results.accepted else "failed",
        "failed": failed,
        "errors": [
            {"alert": place, "reason": error.reason_name, "message": error.message} for place, error in results.errors
        ],
    }
    if results.delayed:
        status = limited if results.limited == results.delayed else 503
        return web.json_response(body, status=status, headers=retry_after(results.wait))
    return web.json_response(body, status=400)


def refuse(status: int, error: TocsinError, *, limited: int = 429) -> web.Response:
    """The whole request is refused, with the status `limited` if a limit or a full queue is the cause."""
    response = error_response(error)
    response.set_status(limited if error.reason in THROTTLED else status)
    return response


answer_each_or_503: Final = partial(answer_each, limited=503)
"""For formats whose senders repeat what is answered 5xx, and nothing that is answered 4xx."""
refuse_or_503: Final = partial(refuse, limited=503)
"""See `answer_each_or_503`."""


def is_transient(error: TocsinError) -> bool:
    """Whether the same alert can be accepted later."""
    return error.reason in _TRANSIENT or http_status(error) >= _PERMANENT


def retry_after(seconds: float) -> dict[str, str]:
    """The header; whole seconds, at least one (RFC 9110 §10.2.3)."""
    return {"Retry-After": str(max(1, round(seconds)))}


def nothing_beside(_request: web.Request) -> Json:
    """For formats that have everything in their bodies."""
    return {}


def the_body_is_all(_request: web.Request, _body: bytes | bytearray) -> Document | None:
    """For formats whose alerts stand in their bodies."""
    return None


def no_notes(_body: Json) -> dict[str, Any]:
    """For formats whose answers carry none."""
    return {}


@dataclass(frozen=True, slots=True)
class Reading:
    """How the alerts of one body are read.

    `items`: the list of them, each of which `item(given, body, place)` makes an alert of; None: the body is one. `place`: what the
    list is called.
    """

    item: Callable[[Any, Json, str], Item]
    items: Iterator[Any] | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """One format of one sender.

    `item(given, body, place)` makes the alert of one element of the list `list_field`, or of the whole body when that is
    empty; it raises TocsinError naming the field below `place`, and any other exception counts as INVALID_FIELD of that
    alert alone. `check(body)` raises TocsinError for a body that is no such payload, and returns the answer's notes. The
    key is taken from the request where `key` finds it, before the body is read, else from the body by `body_key`.
    `beside(request)`: fields that stand in the path or the query; they stand in `body` as well, in place of its own.
    `may_be_empty`: no body at all is taken as an empty object. `outer`: whether the body is an object, or a list of alerts, which
    is then taken as that list, also with a `list_field`. `read`: of formats whose alerts are read as their integration says.
    `open(request, body)`: the document, of requests whose body is not all of it; None: the body is. `options`: what answers
    OPTIONS, of formats whose senders ask before they send. `of_open_incidents`: the body is about all that is wrong with its
    integration: `item` gets the key of one alert of each open incident. `prove(fetcher, org_id, body)`: that the sender is who it
    says, of formats where its key does not say enough. `read_with`: the fields of the body that `item` looks at beside the element,
    where it looks at nothing else: an element that is written as one before it and stands beside the same is not read again.
    `of_body`: the bytes of the body alone say which key stands in it, which alert it is, and the answer once that is committed: a
    body that came before is not parsed again (`tocsin_ingest.http.known_bodies`).
    """

    paths: tuple[str, ...]
    name: str
    item: Callable[[Any, Json, str], Item]
    list_field: str = ""
    check: Callable[[Json], dict[str, Any]] = no_notes
    key: Callable[[web.Request], str] = header_or_path_key
    body_key: Callable[[Json], str] = no_key
    beside: Callable[[web.Request], Json] = nothing_beside
    may_be_empty: bool = False
    outer: Outer = Outer.OBJECT
    read: Callable[[Document, Routing], Reading] | None = None
    open: Callable[[web.Request, bytes | bytearray], Document | None] = the_body_is_all
    options: Callable[[web.Request], Awaitable[web.Response]] | None = None
    of_open_incidents: bool = False
    prove: Callable[[Fetcher, str, Json], Awaitable[None]] | None = None
    read_with: tuple[str, ...] | None = None
    of_body: bool = False
    method: str = "POST"
    answer: Callable[[Results], web.Response] = answer_each
    refuse: Callable[[int, TocsinError], web.Response] = refuse
