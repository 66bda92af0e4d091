"""Request text that can be stored: one rule for every field of every request.

PostgreSQL's `text` and `jsonb` hold every character but NUL (U+0000, PostgreSQL manual §8.3 and §8.14). JSON, which `grpcurl`
prints, has no NaN and no infinity, no `Value` without a kind, and no time outside the years 1 to 9999 (protobuf language guide,
"ProtoJSON Format"). A request with one of these would be accepted here and fail in the next database, in the next service or when
it is read. So it is handled before any handler gets it:

- a message with the option `tocsin.type.v1.machine_text` is repaired in place, because its sender cannot correct it;
- everything else is refused with INVALID_FIELD, because a person can correct it.

Half a surrogate pair needs no rule: a protobuf string cannot hold one.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.type.v1 import text_pb2

from tocsin_kit.errors import FieldViolation, invalid_fields
from tocsin_kit.rpc.bounds import key_path

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
MAX_VIOLATIONS: Final = 50
_OTHER_REPLACEMENTS: Final = (REPLACEMENT, "\N{SYMBOL FOR NULL}", "?", "_")
"""In the order in which they are tried for a map key, when the key so repaired is there already."""

_NUL_REFUSED: Final = "must not contain the character NUL (U+0000), which cannot be stored; leave it out"
_NOT_FINITE: Final = "must be a finite number; send NaN and infinities as text"
_NO_KIND: Final = "must have a value; send null for none"
_BAD_TIME: Final = "must be between 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, with nanos between 0 and 999999999"
_BAD_DURATION: Final = (
    "must be within 315576000000 seconds of 0, with nanos of the same sign and at most 999999999 of them"
)

_NANOS: Final = 1_000_000_000
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_LONGEST: Final = 315_576_000_000


def make_storable(message: Message, prefix: str = "", data: bytes | None = None) -> None:
    """Repairs what machines wrote; raises INVALID_FIELD naming each other field that cannot be stored.

    Fields with `IGNORE_ALWAYS` (items of batches that are checked one by one) are left out. Costs about one serialization of the
    message when there is nothing to do: a value that cannot be stored needs one of three bytes. They are NUL itself, which an
    empty `Value` has too; the last byte of a NaN or an infinity; and a byte of every negative varint. A message without them
    needs no look at its fields, apart from its times.

    `data`: the message serialized, by a caller who has done so. If the message is to be repaired, it has no unknown fields.
    """
    plan = _plan(cast(Descriptor, message.DESCRIPTOR))
    if not plan.fields:
        return
    if plan.machine or plan.has_machine:
        message.DiscardUnknownFields()
    fields = _doubtful(message, plan, message.SerializeToString() if data is None else data)
    if not fields:
        return
    walk = _Walk()
    walk.message(message, plan, prefix, plan.machine, fields)
    if walk.violations:
        raise invalid_fields(walk.violations)


def is_storable(message: Message, data: bytes) -> bool:
    """Tells in a moment that `make_storable` would do nothing; False: it must be asked.

    `data`: the message serialized. It has no unknown fields.
    """
    return not _doubtful(message, _plan(cast(Descriptor, message.DESCRIPTOR)), data)


def repairs(message: Message) -> bool:
    """Whether `make_storable` may change a message of this type, so that it must come before the rules are applied."""
    plan = _plan(cast(Descriptor, message.DESCRIPTOR))
    return plan.machine or plan.has_machine


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    check: str
    """What holds the text: string, map, struct, value, timestamp, duration or message."""
    repeated: bool
    type: Descriptor | None
    key_is_text: bool = False
    value_check: str = ""


@dataclass(slots=True)
class _Plan:
    """The fields of one message type that may hold something that cannot be stored."""

    machine: bool
    has_machine: bool = False
    fields: tuple[_Field, ...] = ()
    timed: tuple[_Field, ...] = ()
    """Those of the fields below which a time may be."""
    lists: tuple[str, ...] = ()
    """The lists and maps among them."""
    times: tuple[str, ...] = ()
    """Those that are a time."""
    above: tuple[tuple[str, "_Plan"], ...] = ()
    """The messages among them, with what is in each."""
    texts: Callable[[Iterable[Any]], Iterable[str]] | None = None
    """All text of a list of such messages, if each field is a single text: such lists are looked through at once."""


def _doubtful(message: Message, plan: _Plan, data: bytes) -> "tuple[_Field, ...]":
    """The fields below which there may be a value that cannot be stored."""
    # Spelled out: this runs for every request, and a generator costs more than the three searches. A number is found in an eighth
    # of the time that bytes are.
    if 0x00 in data or 0x7F in data or 0xFF in data:
        return plan.fields
    return plan.timed if plan.timed and _has_time(message, plan) else ()


_plans: dict[Descriptor, _Plan] = {}
_SPECIAL: Final = {
    "google.protobuf.Struct": "struct",
    "google.protobuf.Value": "value",
    "google.protobuf.ListValue": "list",
    "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
}
_TIMES: Final = ("timestamp", "duration")


def _plan(descriptor: Descriptor) -> _Plan:
    plan = _plans.get(descriptor)
    if plan is None:
        # Entered first: a type that contains itself meets its own plan, which is filled by the time it is used.
        plan = _plans[descriptor] = _Plan(descriptor.GetOptions().Extensions[text_pb2.machine_text])
        fields = [each for field in descriptor.fields if (each := _field(field)) is not None]
        plan.fields = tuple(fields)
        plan.timed = tuple(each for each in fields if _is_timed(each))
        plan.lists = tuple(each.name for each in plan.timed if each.repeated or each.check == "map")
        single = [each for each in plan.timed if each.name not in plan.lists]
        plan.times = tuple(each.name for each in single if each.type is None or each.check in _TIMES)
        plan.above = tuple((each.name, _plan(each.type)) for each in single if each.type and each.check not in _TIMES)
        if all(each.check == "string" and not each.repeated for each in fields):
            plan.texts = _reader(each.name for each in fields)
        plan.has_machine = any(
            (inner := _plan(each.type)).machine or inner.has_machine
            for each in fields
            if each.check == "message" and each.type
        )
    return plan


def _reader(names: Iterable[str]) -> Callable[[Iterable[Any]], Iterable[str]] | None:
    """Reads these text fields of each message. No step of it is Python: a request may hold a hundred thousand of them."""
    match tuple(names):
        case ():
            return None
        case (name,):
            return functools.partial(map, operator.attrgetter(name))
        case several:
            read = operator.attrgetter(*several)
            return lambda values: itertools.chain.from_iterable(map(read, values))


def _field(field: FieldDescriptor) -> _Field | None:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if validate_pb2.IGNORE_ALWAYS in (rules.ignore, rules.repeated.items.ignore):
        return None
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        key, value = inner.fields_by_name["key"], inner.fields_by_name["value"]
        key_is_text = key.type == FieldDescriptor.TYPE_STRING
        value_check = _check_of(value)
        if not key_is_text and not value_check:
            return None
        return _Field(field.name, "map", False, value.message_type, key_is_text, value_check)
    check = _check_of(field)
    return _Field(field.name, check, field.is_repeated, inner) if check else None


def _check_of(field: FieldDescriptor) -> str:
    if field.type == FieldDescriptor.TYPE_STRING:
        return "string"
    if field.message_type is None:
        return ""
    special = _SPECIAL.get(field.message_type.full_name)
    if special:
        return special
    return "message" if _plan(field.message_type).fields else ""


def _has_time(message: Any, plan: _Plan) -> bool:
    """Whether a time is set in the message, or may be: lists and maps are not looked into."""
    for name in plan.times:
        if message.HasField(name):
            return True
    for name in plan.lists:
        if len(getattr(message, name)):
            return True
    for name, inner in plan.above:  # noqa: SIM110 - a generator costs more than the look, and this runs for every request
        if message.HasField(name) and _has_time(getattr(message, name), inner):
            return True
    return False


def _is_timed(field: _Field) -> bool:
    check = field.value_check or field.check
    return check in _TIMES or (check == "message" and field.type is not None and bool(_plan(field.type).timed))


class _Walk:
    """One message on its way through its plan."""

    def __init__(self) -> None:
        self.violations: list[FieldViolation] = []

    def message(self, message: Any, plan: _Plan, prefix: str, machine: bool, fields: tuple[_Field, ...]) -> None:
        only_times = fields is plan.timed and fields is not plan.fields
        for field in fields:
            path = f"{prefix}.{field.name}" if prefix else field.name
            if field.check == "map":
                self._map(getattr(message, field.name), field, path, machine, only_times)
            elif field.repeated:
                self._repeated(getattr(message, field.name), field, path, machine, only_times)
            elif field.check == "string":
                text = getattr(message, field.name)
                if "\0" in text:
                    self._text(path, machine, functools.partial(setattr, message, field.name), text)
            elif message.HasField(field.name):
                self._single(message, field, path, machine, only_times)

    def _single(self, message: Any, field: _Field, path: str, machine: bool, only_times: bool) -> None:
        value = getattr(message, field.name)
        if field.check in _TIMES and machine and not _mend_time(value, field.check):
            message.ClearField(field.name)
        else:
            self._inner(value, field.check, field.type, path, machine, only_times)

    def _repeated(self, values: Any, field: _Field, path: str, machine: bool, only_times: bool) -> None:
        texts = _plan(field.type).texts if field.check == "message" and field.type is not None else None
        if texts is not None and "\0" not in "".join(texts(values)):
            return
        for index, value in enumerate(values):
            place = f"{path}[{index}]"
            if field.check != "string":
                self._inner(value, field.check, field.type, place, machine, only_times)
            elif "\0" in value:
                self._text(place, machine, functools.partial(values.__setitem__, index), value)

    def _map(self, values: Any, field: _Field, path: str, machine: bool, only_times: bool) -> None:
        if field.key_is_text and not only_times:
            for key in [key for key in values if "\0" in key]:
                self._key(values, key, path, machine, is_message=field.type is not None)
        for key in list(values):
            place = key_path(path, key)
            value = values[key]
            if field.value_check == "string":
                if "\0" in value:
                    self._text(place, machine, functools.partial(values.__setitem__, key), value)
            elif field.value_check:
                self._inner(value, field.value_check, field.type, place, machine, only_times)

    def _key(self, values: Any, key: str, path: str, machine: bool, *, is_message: bool) -> None:
        if not machine:
            self._refuse(key_path(path, repaired(key)), _NUL_REFUSED)
            return
        fixed = next((name for name in _spellings(key) if name not in values), None)
        if fixed is not None:
            if is_message:
                values[fixed].CopyFrom(values[key])
            else:
                values[fixed] = values[key]
        del values[key]

    def _inner(
        self, value: Any, check: str, type_: Descriptor | None, path: str, machine: bool, only_times: bool
    ) -> None:
        match check:
            case "message":
                assert type_ is not None
                plan = _plan(type_)
                self.message(value, plan, path, machine or plan.machine, plan.timed if only_times else plan.fields)
            case "struct":
                self._struct(value, path, machine)
            case "value":
                self._value(value, path, machine)
            case "list":
                self._list(value, path, machine)
            case _ if machine:
                if not _mend_time(value, check):
                    value.Clear()
            case "timestamp" if not _is_time(value):
                self._refuse(path, _BAD_TIME)
            case "duration" if not _is_duration(value):
                self._refuse(path, _BAD_DURATION)

    def _struct(self, struct: Any, path: str, machine: bool) -> None:
        fields = struct.fields
        for key in [key for key in fields if "\0" in key]:
            self._key(fields, key, path, machine, is_message=True)
        for key in list(fields):
            self._value(fields[key], key_path(path, key), machine)

    def _list(self, values: Any, path: str, machine: bool) -> None:
        for index, value in enumerate(values.values):
            self._value(value, f"{path}[{index}]", machine)

    def _value(self, value: Any, path: str, machine: bool) -> None:
        match value.WhichOneof("kind"):
            case "string_value" if "\0" in value.string_value:
                self._text(path, machine, functools.partial(setattr, value, "string_value"), value.string_value)
            case "number_value" if not math.isfinite(value.number_value):
                if machine:
                    value.string_value = _number_name(value.number_value)
                else:
                    self._refuse(path, _NOT_FINITE)
            case "struct_value":
                self._struct(value.struct_value, path, machine)
            case "list_value":
                self._list(value.list_value, path, machine)
            case None if machine:
                value.null_value = 0
            case None:
                self._refuse(path, _NO_KIND)

    def _text(self, path: str, machine: bool, put: Callable[[str], object], text: str) -> None:
        if machine:
            put(repaired(text))
        else:
            self._refuse(repaired(path), _NUL_REFUSED)

    def _refuse(self, path: str, rule: str) -> None:
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(FieldViolation(path, rule))


def repaired(text: str) -> str:
    """The text with U+FFFD in place of each NUL."""
    return text.replace("\0", REPLACEMENT)


def _spellings(key: str) -> Iterator[str]:
    """What a map key may become: two keys that differ must not become one."""
    return (key.replace("\0", each) for each in _OTHER_REPLACEMENTS)


def _number_name(value: float) -> str:
    """As JavaScript and ProtoJSON name it."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _is_time(stamp: Timestamp) -> bool:
    return _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < _NANOS


def _is_duration(duration: Duration) -> bool:
    seconds, nanos = duration.seconds, duration.nanos
    return -_LONGEST <= seconds <= _LONGEST and -_NANOS < nanos < _NANOS and seconds * nanos >= 0


def _mend_time(value: Any, check: str) -> bool:
    """Carries nanos over into seconds. False when it is no time even so."""
    if check == "timestamp":
        if not _is_time(value):
            carried, value.nanos = divmod(value.nanos, _NANOS)
            value.seconds = max(-(2**63), min(2**63 - 1, value.seconds + carried))
        return _is_time(value)
    return _is_duration(value)
