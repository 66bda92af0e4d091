"""Messages that cost much for their bytes, generated from descriptors for any request type."""

from collections.abc import Iterator
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tocsin_kit.rpc.bounds import STRUCT_VALUES, is_map, rules_of

_DEPTH = 3
_NESTED_STRUCTS = 24
_DIGITS = 6
_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
STRUCT = "google.protobuf.Struct"


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def hostile_messages(descriptor: Descriptor, size: int) -> Iterator[tuple[str, bytes]]:
    """What is bad about it, and the bytes: about `size` of them, or as many as a bound allows."""
    yield "unknown fields", (varint(1000 << 3) + b"\x01") * (size // 3)
    yield "one unknown field", field(1000, bytes(size - 8))
    yield from _inside(descriptor, size, "", _DEPTH)


def _inside(descriptor: Descriptor, size: int, path: str, depth: int) -> Iterator[tuple[str, bytes]]:
    for each in descriptor.fields:
        where = f"{path}{each.name}"
        if is_map(each):
            yield f"entries of {where}", _many_keys(each.number, size)
            yield f"one key of {where}", field(each.number, field(1, b"k" * (size - 32)))
        elif each.type in _TEXT:
            yield f"length of {where}", field(each.number, b"x" * (size - 16))
            if each.is_repeated:
                yield f"empty items of {where}", field(each.number, b"") * (size // 3)
                yield f"different items of {where}", _different(_head(each.number, _DIGITS), size // 9)
        elif each.message_type is None:
            if each.is_repeated:
                yield f"packed {where}", field(each.number, b"\x07" * (size - 16))
            yield f"repeats of {where}", (varint(each.number << 3) + b"\x01") * (size // 3)
        elif each.message_type.full_name == STRUCT:
            yield f"values of {where}", field(each.number, field(1, field(1, b"k") + field(2, _numbers(size - 64))))
            yield f"values below a long key of {where}", field(each.number, _below_a_long_key(size))
            yield f"depth of {where}", field(each.number, _deep(_NESTED_STRUCTS, size - 1024))
        else:
            if each.is_repeated:
                yield f"items of {where}", field(each.number, b"") * (size // 3)
                most = rules_of(each).repeated.max_items
                yield f"violations in {where}", field(each.number, b"") * most
                yield f"violations deep in {where}", field(each.number, _all_empty(each.message_type, 2)) * most
            if depth:
                for what, inner in _inside(each.message_type, size - 8, f"{where}.", depth - 1):
                    yield what, field(each.number, inner)


def _many_keys(number: int, size: int) -> bytes:
    key = _head(1, _DIGITS)
    return _different(_head(number, len(key) + _DIGITS) + key, size // 10)


def _head(number: int, length: int) -> bytes:
    """What stands before a length-delimited field of so many bytes."""
    return field(number, bytes(length))[:-length]


def _different(head: bytes, count: int) -> bytes:
    """So many texts, each behind `head`. Joined from the same texts every time: to write millions of them takes seconds."""
    return head + head.join(_texts(count))


@cache
def _texts(count: int) -> list[bytes]:
    return [b"%0*d" % (_DIGITS, number) for number in range(count)]


def _numbers(size: int) -> bytes:
    return field(6, field(1, b"\x08\x00") * (size // 4))


def _below_a_long_key(size: int) -> bytes:
    """The most values that are allowed, each with a path as long as the key."""
    nothing = field(1, b"\x08\x00") * (STRUCT_VALUES - 2)
    return field(1, field(1, b"k" * (size - len(nothing) - 64)) + field(2, field(6, nothing)))


def _deep(levels: int, size: int) -> bytes:
    value = field(3, b"x" * size)
    for _ in range(levels):
        value = field(5, field(1, field(1, b"k") + field(2, value)))
    return field(1, field(1, b"k") + field(2, value))


def _all_empty(descriptor: Descriptor, depth: int) -> bytes:
    """One empty entry in each field that takes entries, as many as it may have."""
    whole = b""
    for each in descriptor.fields:
        if each.is_repeated and not is_map(each) and (each.message_type is not None or each.type in _TEXT):
            inner = _all_empty(each.message_type, depth - 1) if each.message_type is not None and depth else b""
            whole += field(each.number, inner) * rules_of(each).repeated.max_items
    return whole
