"""Reads requests of unknown callers, with a size limit, before the caller is verified."""

import json
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web
from tocsin_kit.errors import invalid

from tocsin_notify.domain.storable import storable

_MOST_BYTES: Final = 65_536
_MOST_FIELDS: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"


async def read_bytes(request: web.Request, most: int = _MOST_BYTES) -> bytes:
    """The body. Answers 411, 413 or 415 to a body without a length, of more than `most` bytes, or with an encoding: no
    provider sends one."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise web.HTTPUnsupportedMediaType(text="Content-Encoding: must be absent")
    if request.content_length is None:
        raise web.HTTPLengthRequired
    if request.content_length > most:
        raise web.HTTPRequestEntityTooLarge(most, request.content_length)
    return await request.read()


async def read_json(request: web.Request) -> dict[str, Any]:
    """The JSON object that is the body, with texts that can be stored. Raises INVALID_FIELD."""
    try:
        return object_of(await read_bytes(request))
    except (ValueError, RecursionError) as error:
        raise invalid("body", "must be a JSON object") from error


def object_of(text: str | bytes) -> dict[str, Any]:
    """The JSON object, with texts that can be stored. Raises ValueError and RecursionError."""
    read = _storable(json.loads(text))
    if not isinstance(read, dict):
        raise ValueError("no object")
    return read


def _storable(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case list():
            return [_storable(each) for each in value]
        case dict():
            return {storable(key): _storable(each) for key, each in value.items()}
        case _:
            return value


async def read_form(request: web.Request) -> list[tuple[str, str]]:
    """The fields, in their order. Raises INVALID_FIELD, and answers 411 or 413 to a body without a length or beyond the
    limit."""
    if request.content_type != _FORM:
        raise invalid("body", f"must be {_FORM}")
    body = await read_bytes(request)
    try:
        text = body.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise invalid("body", f"must be a form of at most {_MOST_FIELDS} fields") from error
