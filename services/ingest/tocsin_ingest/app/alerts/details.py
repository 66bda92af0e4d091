"""The size of an alert's details, computed without serializing them: that takes a second for a message of 1 MiB."""

import json
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct
from tocsin_kit.errors import invalid

LIMIT: Final = 64 << 10
"""Bytes as JSON; the contract says so."""
_JSON_GROWTH: Final = 6
"""A byte of a Struct takes at most this many as JSON (a control character becomes \\u0001)."""
_JSON_SHRINKAGE: Final = 6
"""A byte of JSON takes at most this many in a Struct: a number of one digit takes eleven, and a comma goes with it."""
FEW: Final = LIMIT // _JSON_GROWTH
"""A Struct of at most this size is within LIMIT, and is not examined."""


def check_details(details: Struct) -> None:
    """Raises INVALID_FIELD for details of more than LIMIT bytes as JSON. At most 10,000 values may be in it."""
    size = details.ByteSize()
    if size <= FEW:
        return
    if size > LIMIT * _JSON_SHRINKAGE:
        raise _too_large(f"more than {LIMIT}")
    length = json_length(details)
    if length > LIMIT:
        raise _too_large(str(length))


def json_length(details: Struct) -> int:
    """Bytes of the details as protobuf's JSON on one line."""
    length = 0
    waiting: list[Any] = [details]
    while waiting:
        inside = waiting.pop()
        if inside.DESCRIPTOR.name == "Struct":
            values = inside.fields.values()
            length += sum(_text_length(name) + 2 for name in inside.fields)
        else:
            values = inside.values
        length += 2 + 2 * max(0, len(values) - 1)
        for value in values:
            kind = value.WhichOneof("kind")
            match kind:
                case "string_value":
                    length += _text_length(value.string_value)
                case "number_value":
                    length += len(repr(value.number_value))
                case "bool_value":
                    length += 4 if value.bool_value else 5
                case "struct_value" | "list_value":
                    waiting.append(getattr(value, kind))
                case _:
                    length += 4
    return length


def _text_length(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())


def _too_large(length: str) -> Exception:
    return invalid("alert.details", f"must be at most {LIMIT} bytes as JSON, has {length}; send less of it")
