"""How much a request may hold, counted before its content is validated.

protovalidate visits every item of a list before it reports that there are too many: a message under 1 MiB with half a million
empty items takes 20 s. So the numbers that the `buf.validate` annotations allow are read once per message type, and each message
is measured against them first: its bytes before it is parsed, its lists and maps by their lengths before their items are
validated. Parts that the annotations ignore are not counted here: each is validated, and so counted, by itself.
"""

import re
from functools import cache, cached_property
from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from tocsin_kit.errors import FieldViolation

DEFAULT_ITEMS: Final = 1000
"""Entries of a list or map whose annotation names no number. A contract test finds such fields."""
MASK_PATHS: Final = 100
"""Paths of a FieldMask, which cannot carry annotations."""
STRUCT_VALUES: Final = 10_000
"""Values in a Struct, at all depths. Parsers bound the depth: 100 messages, four of which make one level of a Struct."""
UNKNOWN_BYTES: Final = 64 << 10
"""Bytes for fields that a newer client sends and this build does not know."""
_UNBOUNDED: Final = 1 << 40
_CHARACTER_BYTES: Final = 4
_SCALAR_BYTES: Final = 12
_LENGTH_BYTES: Final = 12
_KEY_CHARACTERS: Final = 64
_MASK: Final = "google.protobuf.FieldMask"
_STRUCT: Final = "google.protobuf.Struct"
_LEAST_VALUE_BYTES: Final = 4
_ENDLESS: Final = re.compile(r"[*+]|\{\d*,\}")
_OPEN_ENDED: Final = frozenset({_STRUCT, "google.protobuf.Value", "google.protobuf.ListValue", "google.protobuf.Any"})


class Bounds:
    """The bounds of one message type."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._steps: list[_Step] = [step for field in descriptor.fields if (step := _step(field)) is not None]
        self.max_bytes: Final = min(_UNBOUNDED, UNKNOWN_BYTES + sum(_field_bytes(field) for field in descriptor.fields))
        """The most bytes of a message that follows every rule, with some for fields of newer clients."""
        self.counts: Final = bool(self._steps)
        """False when no list, map or Struct is in it."""

    def excess(self, message: Message, prefix: str = "") -> FieldViolation | None:
        """The first list or map with more entries than allowed; None when all fit. Visits no more than is allowed."""
        for step in self._steps:
            found = step.excess(message)
            if found is not None:
                return _below(prefix, found) if prefix else found
        return None

    @cached_property
    def few_bytes(self) -> int:
        """A message of this size cannot contain too many uncounted entries."""
        return min((step.few_bytes for step in self._steps), default=_UNBOUNDED)

    def entries(self, message: Message, enough: int) -> int:
        """The number of entries of lists and maps in it, at all depths; counting ends above `enough`. Call it once `excess` found
        none."""
        found = 0
        for step in self._steps:
            found += step.entries(message, enough - found)
            if found > enough:
                break
        return found


class _Step:
    """One field to count: its own entries, and what is inside of them."""

    def __init__(self, field: FieldDescriptor, limit: int, inner: Bounds | None) -> None:
        self.name: Final = field.name
        self._limit = limit
        self._inner = inner
        self._repeated = field.is_repeated
        self._map = is_map(field)
        self._struct = field.message_type is not None and field.message_type.full_name == _STRUCT
        own = _UNBOUNDED
        if field.is_repeated:
            own = own if _is_counted(field) else limit  # an entry takes a byte at least
        elif self._struct:
            own = _LEAST_VALUE_BYTES * STRUCT_VALUES
        self.few_bytes: Final = own if inner is None else min(own, inner.few_bytes)

    def excess(self, message: Message) -> FieldViolation | None:
        """Paths are built only once something is found, on the way back: most messages have no fault."""
        name, inner = self.name, self._inner
        if not self._repeated:
            if not message.HasField(name):
                return None
            if self._struct:
                return _struct_excess(getattr(message, name), name)
            return inner.excess(getattr(message, name), name) if inner is not None else None
        entries = getattr(message, name)
        if len(entries) > self._limit:
            return FieldViolation(name, f"must have at most {self._limit} entries, has {len(entries)}; send fewer")
        if inner is None:
            return None
        if self._map:
            for key in entries:
                found = inner.excess(entries[key])
                if found is not None:
                    return _below(key_path(name, key), found)
            return None
        for index, entry in enumerate(entries):
            found = inner.excess(entry)
            if found is not None:
                return _below(f"{name}[{index}]", found)
        return None

    def entries(self, message: Message, enough: int) -> int:
        inner = self._inner
        if not self._repeated:
            if inner is None or not message.HasField(self.name):
                return 0
            return inner.entries(getattr(message, self.name), enough)
        entries = getattr(message, self.name)
        found = len(entries)
        if inner is not None:
            for each in entries.values() if self._map else entries:
                if found > enough:
                    break
                found += inner.entries(each, enough - found)
        return found


def _below(path: str, found: FieldViolation) -> FieldViolation:
    """The violation with its path from above: `found` has the path within the part at `path`."""
    return FieldViolation(f"{path}.{found.field}", found.description)


@cache
def bounds_of(descriptor: Descriptor) -> Bounds:
    """The bounds of the type, read once from its annotations."""
    return Bounds(descriptor)


def key_path(path: str, key: object) -> str:
    """The path of a map's entry. Long keys are cut: a path is built for each value below, however long the key is."""
    if not isinstance(key, str):
        return f"{path}[{str(key).lower()}]"
    return f'{path}["{key}"]' if len(key) <= _KEY_CHARACTERS else f'{path}["{key[: _KEY_CHARACTERS - 1]}…"]'


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def unbounded_fields(descriptor: Descriptor) -> list[str]:
    """Full names of the fields at every depth whose annotations do not bound their size, for the contract test."""
    found: dict[str, None] = {}
    _find_unbounded(descriptor, found, set())
    return list(found)


def _find_unbounded(descriptor: Descriptor, found: dict[str, None], seen: set[str]) -> None:
    if descriptor.full_name in seen or descriptor.full_name.startswith("google.protobuf."):
        return
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        rules = rules_of(field)
        if is_map(field):
            key, value = _entry(field)
            bounded = rules.map.HasField("max_pairs")
            bounded = bounded and _value_bounded(key, rules.map.keys) and _value_bounded(value, rules.map.values)
        elif field.is_repeated:
            bounded = rules.repeated.HasField("max_items") and _value_bounded(field, rules.repeated.items)
        else:
            bounded = _value_bounded(field, rules)
        if not bounded:
            found[field.full_name] = None
        inner = _inner_type(field)
        if inner is not None:
            _find_unbounded(inner, found, seen)


def rules_of(field: FieldDescriptor) -> Any:
    """The field's `buf.validate` annotation."""
    return field.GetOptions().Extensions[validate_pb2.field]


def _value_bounded(field: FieldDescriptor, rules: Any) -> bool:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bool(rules.bytes.HasField("max_len"))
    return field.type != FieldDescriptor.TYPE_STRING or _string_bytes(rules.string) < _UNBOUNDED


def _string_bytes(rules: Any) -> int:
    if rules.HasField("max_bytes"):
        return int(rules.max_bytes)
    if rules.HasField("max_len"):
        return _CHARACTER_BYTES * int(rules.max_len)
    if rules.uuid:
        return 36
    pattern = rules.pattern
    if pattern.startswith("^") and pattern.endswith("$") and not _ENDLESS.search(pattern):
        # An upper limit: all counted repetitions, and every character of the pattern itself.
        repeated = sum(int(most) for most in re.findall(r"\{(?:\d+,)?(\d+)\}", pattern))
        return _CHARACTER_BYTES * (repeated + len(pattern))
    return _UNBOUNDED


def _value_bytes(field: FieldDescriptor, rules: Any) -> int:
    if field.type == FieldDescriptor.TYPE_STRING:
        return _string_bytes(rules.string)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return int(rules.bytes.max_len) if rules.bytes.HasField("max_len") else _UNBOUNDED
    if field.message_type is None:
        return _SCALAR_BYTES
    name = field.message_type.full_name
    if name in _OPEN_ENDED or _recursive(field.message_type):
        return _UNBOUNDED
    return UNKNOWN_BYTES if name == _MASK else bounds_of(field.message_type).max_bytes - UNKNOWN_BYTES


def _field_bytes(field: FieldDescriptor) -> int:
    rules = rules_of(field)
    if is_map(field):
        key, value = _entry(field)
        entry = _value_bytes(key, rules.map.keys) + _value_bytes(value, rules.map.values) + 3 * _LENGTH_BYTES
        return _limit(field, rules) * entry
    size = _value_bytes(field, rules.repeated.items if field.is_repeated else rules) + _LENGTH_BYTES
    return _limit(field, rules) * size if field.is_repeated else size


def _entry(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """Key and value of a map."""
    assert field.message_type is not None
    key, value = field.message_type.fields
    return key, value


def _is_counted(field: FieldDescriptor) -> bool:
    rules = rules_of(field)
    most = rules.map.HasField("max_pairs") if is_map(field) else rules.repeated.HasField("max_items")
    return bool(most) and rules.ignore != validate_pb2.IGNORE_ALWAYS


def _limit(field: FieldDescriptor, rules: Any) -> int:
    if is_map(field):
        return int(rules.map.max_pairs) if rules.map.HasField("max_pairs") else DEFAULT_ITEMS
    return int(rules.repeated.max_items) if rules.repeated.HasField("max_items") else DEFAULT_ITEMS


def _step(field: FieldDescriptor) -> _Step | None:
    rules = rules_of(field)
    inner_type = _inner_type(field)
    skipped = validate_pb2.IGNORE_ALWAYS in (rules.ignore, rules.repeated.items.ignore)
    inner = None
    if inner_type is not None and not skipped and not _recursive(inner_type):
        inner = _mask_bounds() if inner_type.full_name == _MASK else bounds_of(inner_type)
    if inner is not None and not inner.counts:
        inner = None
    if field.is_repeated:
        return _Step(field, _limit(field, rules), inner)
    struct = inner_type is not None and inner_type.full_name == _STRUCT and not skipped
    return _Step(field, 0, inner) if inner is not None or struct else None


def _inner_type(field: FieldDescriptor) -> Descriptor | None:
    if is_map(field):
        return _entry(field)[1].message_type
    return field.message_type


@cache
def _recursive(descriptor: Descriptor) -> bool:
    """Whether a message of the type can hold another of it; such a type is bounded by the parser's depth alone."""
    seen: set[str] = set()
    waiting = [descriptor]
    while waiting:
        for field in waiting.pop().fields:
            inner = field.message_type
            if inner is None:
                continue
            if inner.full_name == descriptor.full_name:
                return True
            if inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append(inner)
    return False


@cache
def _mask_bounds() -> Bounds:
    bounds = Bounds(FieldMask.DESCRIPTOR)
    bounds._steps = [_Step(FieldMask.DESCRIPTOR.fields_by_name["paths"], MASK_PATHS, None)]
    return bounds


def _struct_excess(struct: Any, path: str) -> FieldViolation | None:
    if struct.ByteSize() <= _LEAST_VALUE_BYTES * STRUCT_VALUES:
        return None
    count = 0
    waiting = [struct]
    while waiting:
        inside = waiting.pop()
        values = inside.fields.values() if inside.DESCRIPTOR.name == "Struct" else inside.values
        count += len(values)
        if count > STRUCT_VALUES:
            return FieldViolation(path, f"must hold at most {STRUCT_VALUES} values; send less of it")
        for value in values:
            kind = value.WhichOneof("kind")
            if kind == "struct_value":
                waiting.append(value.struct_value)
            elif kind == "list_value":
                waiting.append(value.list_value)
    return None
