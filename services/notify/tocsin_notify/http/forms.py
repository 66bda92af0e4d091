"""Forms that strangers post: read with a bound, before anybody knows who they are."""

from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from tocsin_kit.errors import invalid

_MOST_BYTES: Final = 65_536
_MOST_FIELDS: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"


async def read_form(request: web.Request) -> list[tuple[str, str]]:
    """The fields, in their order. Raises INVALID_FIELD, and answers 411 or 413 to what has no length or too much of it."""
    if request.content_type != _FORM:
        raise invalid("body", f"must be {_FORM}")
    if request.content_length is None:
        raise web.HTTPLengthRequired
    if request.content_length > _MOST_BYTES:
        raise web.HTTPRequestEntityTooLarge(_MOST_BYTES, request.content_length)
    try:
        text = (await request.read()).decode("ascii")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise invalid("body", f"must be a form of at most {_MOST_FIELDS} fields") from error
