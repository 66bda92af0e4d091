"""Ids and resource names: made here, parsed here, typed everywhere else (AIP-122)."""

import os
import re
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from tocsin_kit.errors import invalid

SLUG: Final = r"[a-z0-9][a-z0-9._-]{0,62}"
_SLUG: Final = re.compile(SLUG)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_lock = threading.Lock()
_last = 0
_noise: Iterator[int] = iter(())
"""Random numbers of 64 bits that were read together: asking the kernel for each takes longer than all other work for an id."""
_PACK: Final = struct.Struct(">QQ").pack
_DRAW: Final = struct.Struct("128Q")


def _forget_noise() -> None:
    global _noise
    _noise = iter(())


# A child process must not use the numbers of its parent.
os.register_at_fork(after_in_child=_forget_noise)


def new_id() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562 version 7), greater than every one this process made before.

    Method 3 of §6.2: the 12 bits after the millisecond hold its fraction; a clock that stands still or steps back counts on from
    the last value. Rows made together are near each other in an index. The time in it is a hint, not a fact.
    """
    global _last, _noise
    moment = (time.time_ns() << 12) // 1_000_000
    with _lock:
        _last = moment = moment if moment > _last else _last + 1
        noise = next(_noise, None)
        if noise is None:
            _noise = iter(_DRAW.unpack(os.urandom(_DRAW.size)))
            noise = next(_noise)
    high = (moment >> 12) << 16 | 0x7000 | (moment & 0xFFF)
    return id_of(_PACK(high, 0x8000_0000_0000_0000 | noise & 0x3FFF_FFFF_FFFF_FFFF))


def id_of(data: bytes) -> uuid.UUID:
    """The UUID of these 16 bytes, as the database driver returns it for a row.

    It is a `uuid.UUID` and equal to one, and is created, hashed and formatted many times faster.
    """
    return UUID(data)


def format_name(*parts: object) -> str:
    """`format_name("widgets", id)` is `widgets/{id}`; deeper names give more pairs."""
    if len(parts) == 2:
        return f"{parts[0]}/{parts[1]}"  # nearly all, and thousands in a batch
    return "/".join(map(str, parts))


def parse_name(name: str, collection: str, *, field: str = "name") -> str:
    """The id in `{collection}/{id}`. Raises INVALID_FIELD naming `field` for anything else."""
    return parse_names(name, collection, field=field)[0]


def parse_names(name: str, *collections: str, field: str = "name") -> tuple[str, ...]:
    """The ids in `{collection}/{id}/{collection}/{id}…`, one for each collection. Raises INVALID_FIELD naming `field`."""
    parts = name.split("/")
    ids = tuple(parts[1::2])
    if len(parts) == 2 * len(collections) and tuple(parts[::2]) == collections and all(map(_SLUG.fullmatch, ids)):
        return ids
    form = "/".join(f"{collection}/{{id}}" for collection in collections)
    raise invalid(field, f"must be a name of the form {form}, where an id matches {SLUG}")


def parse_uuid_name(name: str, collection: str, *, field: str = "name") -> uuid.UUID:
    """The UUID in `{collection}/{uuid}`, in its canonical lower-case form only: one resource has one name.

    Raises INVALID_FIELD naming `field` for anything else.
    """
    head, _, tail = name.partition("/")
    if head == collection and _UUID.fullmatch(tail):
        return UUID(tail)
    raise invalid(field, f"must be a name of the form {collection}/{{uuid}}, the uuid in lower case with hyphens")
