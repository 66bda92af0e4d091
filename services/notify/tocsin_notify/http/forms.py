"""What strangers post: read with a bound, before anybody knows who they are."""

import json
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web
from tocsin_kit.errors import invalid

_MOST_BYTES: Final = 65_536
_MOST_FIELDS: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"


async def read_bytes(request: web.Request) -> bytes:
    """The body. Answers 411, 413 or 415 to what has no length, too much of it, or an encoding: no provider sends one."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise web.HTTPUnsupportedMediaType(text="Content-Encoding: must be absent")
    if request.content_length is None:
        raise web.HTTPLengthRequired
    if request.content_length > _MOST_BYTES:
        raise web.HTTPRequestEntityTooLarge(_MOST_BYTES, request.content_length)
    return await request.read()


async def read_json(request: web.Request) -> dict[str, Any]:
    """The JSON object that is the body. Raises INVALID_FIELD."""
    try:
        read = json.loads(await read_bytes(request))
    except (ValueError, RecursionError) as error:
        raise invalid("body", "must be JSON") from error
    if not isinstance(read, dict):
        raise invalid("body", "must be a JSON object")
    return read


async def read_form(request: web.Request) -> list[tuple[str, str]]:
    """The fields, in their order. Raises INVALID_FIELD, and answers 411 or 413 to what has no length or too much of it."""
    if request.content_type != _FORM:
        raise invalid("body", f"must be {_FORM}")
    body = await read_bytes(request)
    try:
        text = body.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise invalid("body", f"must be a form of at most {_MOST_FIELDS} fields") from error
