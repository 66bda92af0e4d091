"""CloudEvents 1.0 over HTTP: `POST /v1/cloudevents`, in binary, structured and batched mode.

The integration key is a bearer token, the password of basic authentication, or the end of the path. Each event is an alert, read
by the integration's mapping with the event's attributes and its `data` as fields. An event is identified by its `source`, `id`
and content: one that comes again within 24 hours counts once.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

import base64
import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web
from tocsin.ingest.v1.integration_service_pb2 import AlertMapping
from tocsin_kit.errors import FieldViolation, TocsinError, invalid, invalid_fields

from tocsin_ingest.app.integrations.compile_mapping import CompiledMapping, compile_mapping
from tocsin_ingest.app.integrations.directory import Routing
from tocsin_ingest.http import documents, fit, generic, mapped
from tocsin_ingest.http.documents import Document, Outer
from tocsin_ingest.http.format import Format, Item, Json, Reading
from tocsin_ingest.http.json_values import VALUE_CHARACTERS

_CLIENT: Final = "CloudEvents"
_PREFIX: Final = "ce-"
_STRUCTURED: Final = "application/cloudevents"
_REQUIRED: Final = ("id", "source", "specversion", "type")
_VERSION: Final = "1.0"
_NO_TYPE: Final = "application/octet-stream"
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ORIGIN: Final = "WebHook-Request-Origin"
_EVENTS: Final = uuid.UUID("6f1cb9a0-6b5c-4d0e-9f0d-6a3b8f5f7c11")
"""Namespace of the request ids that are made of events."""
_DEFAULT: Final = compile_mapping(
    AlertMapping(
        dedup_key="data.dedup_key || join('/', [source, type, subject || ''])",
        summary="data.summary || data.message || data.title || join(' ', [type, 'from', source])",
        severity="data.severity || severity",
        action="data.action",
        labels="{type: type, source: source, subject: subject}",
        source="source",
        links="data.links",
    )
)
"""Of an integration without a mapping. Events of one source, type and subject are one alert."""


def open_event(request: web.Request, body: bytes | bytearray) -> Document | None:
    """The event of a request in binary mode, whose attributes are headers and whose body is its data."""
    if request.content_type.startswith(_STRUCTURED) or f"{_PREFIX}id" not in request.headers:
        return None
    event: dict[str, Any] = {
        name.lower().removeprefix(_PREFIX): unquote(_unquoted(value))
        for name, value in request.headers.items()
        if name.lower().startswith(_PREFIX)
    }
    if body:
        event["data"] = _data(body, request.content_type)
    return documents.of_fields(event)


def read(document: Document, routing: Routing) -> Reading:
    """One event, or a batch of them."""
    item = partial(_item, routing.mapping or _DEFAULT, routing.integration_id)
    return Reading(item, document.items() if document.bare else None)


async def handshake(request: web.Request) -> web.Response:
    """Senders may ask whether events are welcome before they send any, and take no answer for a no.

    The key of each event decides who may send, so the answer to every caller is yes, at any rate; events that come too fast are
    refused, to be repeated. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection
    """
    origin = request.headers.get(_ORIGIN, "").strip()
    if not origin:
        raise invalid(_ORIGIN, "must name the sender; without it OPTIONS asks nothing")
    headers = {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*", "Allow": "OPTIONS, POST"}
    return web.Response(headers=headers)


FORMAT: Final = Format(
    ("/v1/cloudevents", "/v1/cloudevents/{key}"),
    "cloudevents",
    generic.never,
    outer=Outer.EITHER,
    read=read,
    open=open_event,
    options=handshake,
)


def _item(mapping: CompiledMapping, integration_id: str, given: Any, _body: Json, place: str) -> Item:
    """One event. Raises INVALID_FIELD naming the attributes that are missing, or the field of the mapping."""
    if not isinstance(given, dict):
        raise _wrong(place)
    missing = [name for name in _REQUIRED if not (isinstance(given.get(name), str) and given[name])]
    if missing:
        raise invalid_fields(
            [FieldViolation(f"{place}.{name}", "must be a text that is not empty") for name in missing]
        )
    if given["specversion"] != _VERSION:
        shown = fit.text(given["specversion"], fit.NAME)
        raise invalid(f"{place}.specversion", f"must be {_VERSION}; is {shown!r}")
    item = mapped.item(mapping, _CLIENT, _with_data(given, place), place)
    if (time := fit.time(given.get("time"))) is not None:
        item.alert.client_time.CopyFrom(time)
    source, event_id = fit.whole(given["source"]), fit.whole(given["id"])
    # Some senders use the id for their alert, so its end has the id of its begin: the content is part of the identity.
    content = hashlib.sha256(item.alert.SerializeToString(deterministic=True)).hexdigest()
    said = f"{integration_id} {content} {len(source)} {source} {event_id}"
    return replace(item, request_id=str(uuid.uuid5(_EVENTS, said)))


def _with_data(event: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """Binary data of an event in JSON is text in base64."""
    encoded = event.get("data_base64")
    if not isinstance(encoded, str):
        return event
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise invalid(f"{place}.data_base64", "is not base64") from error
    kind = event.get("datacontenttype")
    content_type = kind.partition(";")[0].strip().lower() if isinstance(kind, str) else _NO_TYPE
    given = _data(data, content_type, f"{place}.data_base64")
    return {name: value for name, value in event.items() if name != "data_base64"} | {"data": given}


def _data(body: bytes | bytearray, content_type: str, place: str = "data") -> Any:
    """Bytes of no type, which is what aiohttp calls the lack of one, may be JSON and need not be."""
    if content_type == _NO_TYPE:
        try:
            return documents.value(body, place)
        except TocsinError:
            return _text(body)
    return documents.value(body, place) if _is_json(content_type) else _text(body)


def _unquoted(value: str) -> str:
    """A header's value without the quotes that HTTP lets stand around one (RFC 9110, 5.6.4)."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        return _ESCAPED.sub(r"\1", value[1:-1])
    return value


def _is_json(content_type: str) -> bool:
    return content_type in ("application/json", "text/json", _NO_TYPE) or content_type.endswith("+json")


def _text(data: bytes | bytearray) -> str:
    """Much more than any field keeps: decoding 32 MiB that are no text would block all other tasks."""
    return data[:VALUE_CHARACTERS].decode("utf-8", "replace")


def _wrong(place: str) -> TocsinError:
    return invalid(place, "must be an object with the attributes of an event")
