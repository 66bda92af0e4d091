"""The parts of a format, and functions that most formats share."""

import base64
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin_kit.errors import TocsinError

from tocsin_ingest.app.integrations.directory import Routing
from tocsin_ingest.domain.expiry import Expiry
from tocsin_ingest.http.documents import Document, Outer
from tocsin_ingest.http.fetcher import Fetcher
from tocsin_ingest.http.results import Results, answer_each, refuse

Json = Mapping[str, Any]


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


def nothing_outside_body(_request: web.Request) -> Json:
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
    """One format of one sender."""

    paths: tuple[str, ...]
    name: str
    item: Callable[[Any, Json, str], Item]
    """`item(given, body, place)` makes the alert of one element of the list `list_field`, or of the whole body if that is empty.

    It raises TocsinError naming the field below `place`; any other exception counts as INVALID_FIELD of that alert alone.
    """
    list_field: str = ""
    check: Callable[[Json], dict[str, Any]] = no_notes
    """The notes of the answer. Raises TocsinError for a body that is no such payload."""
    key: Callable[[web.Request], str] = header_or_path_key
    """The integration key in the request, before the body is read; empty: it stands in the body, for `body_key`."""
    body_key: Callable[[Json], str] = no_key
    outside_body: Callable[[web.Request], Json] = nothing_outside_body
    """Fields in the path or the query. They are added to the body, in place of its own."""
    may_be_empty: bool = False
    """No body at all is taken as an empty object."""
    outer: Outer = Outer.OBJECT
    """Whether the body is an object, or a list of alerts, which is then taken as that list, also with a `list_field`."""
    read: Callable[[Document, Routing], Reading] | None = None
    """How the alerts are read, of formats whose integration says that."""
    open: Callable[[web.Request, bytes | bytearray], Document | None] = the_body_is_all
    """The document, of requests whose body is not all of it; None: the body is."""
    options: Callable[[web.Request], Awaitable[web.Response]] | None = None
    """Answers OPTIONS, of formats whose senders ask before they send."""
    of_open_incidents: bool = False
    """The body is about all that is wrong with its integration: `item` gets the key of one alert of each open incident."""
    verify: Callable[[Fetcher, str, Json], Awaitable[None]] | None = None
    """Given the tenant and the body, proves that the sender is who it says, of formats whose key does not say enough."""
    read_with: tuple[str, ...] | None = None
    """The fields of the body that `item` looks at beside the element, where it looks at nothing else.

    An element that is written as one before it, beside the same values of these fields, is not read again.
    """
    known_by_bytes: bool = False
    """The bytes alone say which key stands in the body, which alert it is, and what is answered once that is committed.

    A body that came before is not parsed again (`tocsin_ingest.http.known_bodies`).
    """
    method: str = "POST"
    answer: Callable[[Results], web.Response] = answer_each
    refuse: Callable[[int, TocsinError], web.Response] = refuse
