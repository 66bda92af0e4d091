"""Requests made from descriptors and their rules: good ones, and ones that are wrong in every way the wire allows."""

import random
import string
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Value
from tocsin_kit.rpc.bounds import is_map, rules_of

ODD_TEXTS = (
    *(
        "",
        "\0",
        "a\0b",
        "\x1b[2J\x1b]0;x\x07",
        "\r\nX: y",
        "\ufeff",
        "\u202e",
        "%s%n",
        "'; DROP TABLE users; --",
        "*",
        "-",
    ),
    *(
        "../..",
        "\U0001f4a3",
        "e\u0301" * 9,
        "NaN",
        "0",
        "-1",
        "9" * 40,
        "{}",
        "null",
        "http://[::1",
        "users/",
        "users/*",
    ),
)
ODD_NUMBERS = (0, 1, -1, 2, 100, 1001, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, -(2**63), 253402300800, -62135596801)
ODD_REALS = (0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324)
_DEPTH = 6
_UUID = "00000000-0000-7000-8000-0000000000%02x"
_ID = "fuzz%d"


class Messages:
    """Random requests. `names` are resource names to put where the rules ask for names of that kind, by collection."""

    def __init__(self, seed: object, names: Mapping[str, str] | None = None, *, odd: float = 0.0) -> None:
        """`odd`: how often a field breaks its rules, or is there though it need not be."""
        self._random = random.Random(repr(seed))
        self._names = dict(names or {})
        self._odd = odd

    def request(self, descriptor: Descriptor) -> bytes:
        """One message; now and then its bytes are damaged on top."""
        data: bytes = self.message(descriptor).SerializeToString()
        if data and self._is_odd() and self._random.random() < 0.3:
            return self._damaged(data)
        return data

    def message(self, descriptor: Descriptor, depth: int = 0) -> Any:
        """One message."""
        message: Any = GetMessageClass(descriptor)()
        if descriptor.full_name == "google.protobuf.FieldMask":
            message.paths.append(
                self._random.choice(("*", "display_name", "nope", "a.b.c", "\0")) if self._odd else "*"
            )
            return message
        chosen = {oneof.name: self._random.choice(oneof.fields).name for oneof in descriptor.oneofs}
        for field in descriptor.fields:
            if field.containing_oneof is not None and chosen[field.containing_oneof.name] != field.name:
                continue
            if depth < _DEPTH or rules_of(field).required:
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        rules = rules_of(field)
        if is_map(field):
            self._fill_map(message, field)
        elif field.is_repeated:
            least = int(rules.repeated.min_items) or (1 if field.name in self._names or not self._odd else 0)
            count = self._random.choice((0, 1, 2, 3)) if self._is_odd() else least
            for _ in range(count):
                values = getattr(message, field.name)
                if field.message_type is not None:
                    values.append(self.message(field.message_type, depth + 1))
                else:
                    values.append(self._scalar(field, rules.repeated.items))
        elif field.message_type is not None:
            if rules.required or self._random.random() < (0.7 if self._odd else 0.5) or not depth:
                self._fill_message(message, field, depth)
        elif not self._odd or self._random.random() < 0.8:
            value = self._scalar(field, rules)
            if value is not None:
                setattr(message, field.name, value)

    def _fill_message(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        assert field.message_type is not None
        inner = getattr(message, field.name)
        kind = field.message_type.full_name
        if kind in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            if self._is_odd():
                inner.seconds = self._random.choice(ODD_NUMBERS)
                inner.nanos = self._random.choice((0, 1, -1, 10**9, 2**31 - 1, -(2**31)))
            else:
                inner.seconds = 1_790_000_000 if kind.endswith("Timestamp") else 60
        elif kind == "google.protobuf.Struct":
            inner.fields[self._odd_text() or "k"].CopyFrom(self._value(3))
        else:
            inner.CopyFrom(self.message(field.message_type, depth + 1))
        inner.SetInParent()

    def _fill_map(self, message: Message, field: FieldDescriptor) -> None:
        value = field.message_type.fields_by_name["value"] if field.message_type is not None else None
        if value is not None and value.type == FieldDescriptor.TYPE_STRING:
            for _ in range(self._random.choice((0, 1, 3))):
                key = self._odd_text() if self._is_odd() else "k"
                getattr(message, field.name)[key] = self._odd_text() if self._is_odd() else "v"

    def _value(self, depth: int) -> Any:
        value = Value()
        match self._random.randrange(6 if depth else 4):
            case 0:
                value.number_value = self._random.choice(ODD_REALS)
            case 1:
                value.string_value = self._odd_text()
            case 2:
                value.bool_value = True
            case 4:
                value.list_value.values.append(self._value(depth - 1))
            case 5:
                value.struct_value.fields[self._odd_text()].CopyFrom(self._value(depth - 1))
        return value

    def _scalar(self, field: FieldDescriptor, rules: Any) -> Any:
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text(field, rules.string)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._random.randbytes(self._random.choice((0, 1, 16, 300)))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._random.random() < 0.5
        if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            return self._random.choice(ODD_REALS)
        if field.enum_type is not None:
            known = [value.number for value in field.enum_type.values if value.number]
            return self._random.choice((-1, 0, 99, 2**31 - 1) if self._is_odd() else known)
        number = self._random.choice(ODD_NUMBERS) if self._is_odd() else 1
        bits = 32 if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32) else 64
        if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
            return number % 2**bits
        return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, number))

    def _text(self, field: FieldDescriptor, rules: Any) -> str | None:
        if self._is_odd():
            return self._odd_text()
        if field.name in ("etag", "page_token", "team", "assignee") and not rules.pattern:
            return None
        collection = rules.pattern.removeprefix("^").partition("/")[0].removeprefix("(").removeprefix("?:")
        if rules.pattern and "/" in rules.pattern:
            if collection in self._names:
                return self._names[collection]
            return f"{collection}/{self._one_id(rules.pattern)}"
        if rules.uuid:
            return self._one_uuid()
        if "http" in rules.pattern:
            return "https://hooks.example.com/x"
        if field.name in self._names:
            return self._names[field.name]
        if field.name == "name":
            return next(iter(self._names.values()), "users/fuzz1")
        if field.name == "code":
            return "123456"
        if field.name == "address" or rules.email:
            return "fuzz@example.com"
        if field.name == "org_id":
            return "org-fuzz"
        if field.name in ("time_zone", "etag", "page_token"):
            return None
        if field.name.endswith("_id"):
            return _ID % self._random.randrange(5)
        return "text"

    def _one_id(self, pattern: str) -> str:
        if "36" in pattern:
            return self._one_uuid()
        return "1" if "[1-9]" in pattern else _ID % self._random.randrange(5)

    def _one_uuid(self) -> str:
        return _UUID % self._random.randrange(256)

    def _odd_text(self) -> str:
        if self._random.random() < 0.1:
            return self._random.choice(string.printable) * self._random.choice((1, 63, 64, 255, 256, 5000))
        return self._random.choice(ODD_TEXTS)

    def _is_odd(self) -> bool:
        return self._random.random() < self._odd

    def _damaged(self, data: bytes) -> bytes:
        at = self._random.randrange(len(data))
        match self._random.randrange(4):
            case 0:
                return data[:at]
            case 1:
                return data[:at] + self._random.randbytes(3) + data[at:]
            case 2:
                return data[:at] + bytes((data[at] ^ 1 << self._random.randrange(8),)) + data[at + 1 :]
        return data + data[at:]
