"""Shortens the texts of senders so that they fit the contract: a page must not be lost because a label is too long.

Only text for people is shortened, never a key: two keys with the same beginning are two alerts.
"""

import json
import math
from collections.abc import Mapping, Sized
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.ingest.v1.alert_pb2 import AlertInput, Link
from tocsin_kit.errors import invalid

SUMMARY: Final = 1024
NAME: Final = 255
LABEL_NAME: Final = 128
LABEL_VALUE: Final = 1024
LABELS: Final = 64
MOST_LABELS: Final = 2000
"""The most labels of an alert: all of them belong to its identity and are examined, which takes about 5 µs for each."""
LINKS: Final = 10
_HREF: Final = 2048
_DETAILS_BYTES: Final = 60 << 10  # the contract takes 64 KiB; the JSON of a Struct may be a little longer
_DEPTH: Final = 16  # protobuf parsers stop at 100 messages, and a level of a Struct takes up to four
_CUT: Final = "…"


def whole(value: Any) -> str:
    """The value as text, however long; empty for None."""
    if value is None:
        return ""
    if isinstance(value, str) and value.isascii():
        return value
    # JSON may hold halves of surrogate pairs, which are no text.
    return (value if isinstance(value, str) else _json(value)).encode("utf-8", "replace").decode()


def text(value: Any, limit: int) -> str:
    """The value as text of at most `limit` characters; what is cut ends in an ellipsis."""
    given = whole(value)
    return given if len(given) <= limit else given[: limit - 1] + _CUT


def key(value: Any, limit: int) -> str:
    """The value as a key of at most `limit` characters; of a longer one its hash, since two keys may begin alike."""
    given = whole(value)
    return given if len(given) <= limit else f"sha256:{sha256(given.encode()).hexdigest()}"


def set_labels(alert: AlertInput, labels: Mapping[str, Any]) -> None:
    """The labels, first those with the shortest names when there are too many to keep. Raises INVALID_FIELD at `field` for more
    than MOST_LABELS labels, annotations or tags, before they are examined."""
    require_few(labels)
    for name in sorted(labels, key=lambda name: (len(name), name))[:LABELS]:
        fitting = text(name, LABEL_NAME)
        if fitting:
            alert.labels[fitting] = text(labels[name], LABEL_VALUE)


def require_few(given: Sized, field: str = "labels") -> None:
    """Raises INVALID_FIELD at `field` for more than MOST_LABELS labels, annotations or tags, before they are looked at."""
    if len(given) > MOST_LABELS:
        raise invalid(field, f"an alert may have {MOST_LABELS} labels and as many annotations, and has {len(given)}")


def add_link(alert: AlertInput, href: Any, label: Any) -> None:
    """A link, when it is one: http or https, of a length browsers take, not there yet, and not the eleventh."""
    if (
        isinstance(href, str)
        and href.startswith(("http://", "https://"))
        and len(href) <= _HREF
        and len(alert.links) < LINKS
        and all(link.href != href for link in alert.links)
    ):
        alert.links.append(Link(href=text(href, _HREF), text=text(label, NAME)))


def set_details(alert: AlertInput, details: Mapping[str, Any]) -> None:
    """The details, or a word about them when they are too many."""
    size = len(_json(details).encode("utf-8", "replace"))
    if size > _DETAILS_BYTES:
        details = {"dropped": f"the details had {size} bytes, at most {_DETAILS_BYTES} are kept"}
    if details:
        alert.details.Clear()
        _fill(alert.details, details, _DEPTH)


def time(value: Any) -> Timestamp | None:
    """An RFC 3339 or ISO 8601 time; None for anything else and for Go's zero time. Without an offset it is UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        # An offset may lead out of the years that a time can be in: 9999-12-31T23:59:59-10:00.
        utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    if utc.year < 1970:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(utc)
    return stamp


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"


def _fill(struct: Struct, given: Mapping[str, Any], depth: int) -> None:
    """In place: values that are built separately are copied into their parents, level by level."""
    fields = struct.fields
    for name, each in given.items():
        _set(fields[text(name, NAME)], each, depth - 1)


def _set(into: Value, given: Any, depth: int) -> None:
    match given:
        case str():
            into.string_value = text(given, _DETAILS_BYTES)
        case None:
            into.null_value = 0  # type: ignore[assignment]
        case bool():
            into.bool_value = given
        case int() | float():
            _set_number(into, given)
        case _ if depth <= 0:
            into.string_value = text(given, _DETAILS_BYTES)
        case Mapping():
            # Two long names may be the same once they are shortened; the last one counts.
            into.struct_value.Clear()
            into.struct_value.SetInParent()
            _fill(into.struct_value, given, depth)
        case _:
            into.list_value.Clear()
            into.list_value.SetInParent()
            for each in given:
                _set(into.list_value.values.add(), each, depth - 1)


def _set_number(into: Value, given: float) -> None:
    # A Struct holds doubles: what one cannot hold exactly is shown rather than changed.
    try:
        number = float(given)
    except OverflowError:
        number = math.inf
    if math.isfinite(number) and number == given:
        into.number_value = number
    else:
        into.string_value = text(str(given), NAME)
