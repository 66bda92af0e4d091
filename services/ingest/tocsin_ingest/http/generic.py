"""JSON of any form: `POST /v1/json`, read by the integration's mapping.

The integration key is a bearer token, the password of basic authentication, or the end of the path. The body is an alert, a list of
alerts, or an object in which the mapping finds them. Without a mapping the names are those of `AlertInput`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from tocsin.ingest.v1.integration_service_pb2 import AlertMapping

from tocsin_ingest.app.integrations.compile_mapping import DEFAULT, EXPRESSIONS, CompiledMapping, compile_mapping
from tocsin_ingest.app.integrations.directory import Routing
from tocsin_ingest.http import mapped
from tocsin_ingest.http.documents import Document, Outer
from tocsin_ingest.http.format import Format, Item, Json, Reading

_DEFAULT: Final = compile_mapping(DEFAULT)
_CLIENT: Final = "JSON"


def preset(path: str, name: str, client: str, mapping: AlertMapping, *, action: str) -> Format:
    """A sender whose bodies are one alert each, which this mapping reads unless the integration has one.

    `action`: the field of the body that says what its sender wants. Of the other ones the mapping holds the names.
    """
    names = {field: getattr(mapping, field) for field in EXPRESSIONS} | {"action": action}
    compiled = compile_mapping(mapping, names=names)

    def read_preset(_document: Document, routing: Routing) -> Reading:
        chosen = routing.mapping or compiled
        return Reading(lambda given, _body, place: mapped.item(chosen, client, given, place))

    return Format((path, path + "/{key}"), name, never, read=read_preset)


def never(_given: Any, _body: Json, _place: str) -> Item:
    """For formats whose alerts are read by a mapping."""
    raise AssertionError("alerts of this format are read by a mapping")


def read(document: Document, routing: Routing) -> Reading:
    """The body's alerts. Raises INVALID_FIELD when the mapping finds no list."""
    return by(routing.mapping or _DEFAULT, document)


def by(mapping: CompiledMapping, document: Document) -> Reading:
    """As this mapping reads them."""
    make = partial(_item, mapping)
    if document.bare:
        return Reading(make, document.items())
    if "alerts" not in mapping.expressions:
        return Reading(make)
    return Reading(make, iter(mapped.alerts_of(mapping, document.fields)), "alerts")


def first(mapping: CompiledMapping, document: Document) -> Iterator[tuple[str, Any]]:
    """The body's alerts with their places, or the TocsinError that one is. Raises INVALID_FIELD as `read`."""
    reading = by(mapping, document)
    if reading.items is None:
        yield "body", document.fields
        return
    for index, given in enumerate(reading.items):
        yield f"{reading.place}[{index}]", given


def item(mapping: CompiledMapping, given: Any, place: str) -> Item:
    """One alert. Raises INVALID_FIELD."""
    return mapped.item(mapping, _CLIENT, given, place)


def _item(mapping: CompiledMapping, given: Any, _body: Json, place: str) -> Item:
    return item(mapping, given, place)


FORMAT: Final = Format(("/v1/json", "/v1/json/{key}"), "json", never, outer=Outer.EITHER, read=read)
