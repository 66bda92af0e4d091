"""Tells in a moment of most messages that they break no rule, so that the rules' own engine is asked about the others only.

protovalidate takes 15 µs for a small message: it copies the message, and evaluates each rule as an expression. The rules
that nearly every field has (lengths, numbers of entries, forms of names, defined enum values) are read once per message
type and made into plain comparisons here. The answer is one-sided. Yes means that protovalidate would find nothing. No
means that it must be asked: a rule may be broken, or it is of a kind that is not known here. So no rule is weakened and
no violation is worded here. A test compares both on generated messages of every request type.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tocsin_kit.rpc.bounds import is_map, rules_of

Check = Callable[[Any], bool]

_PLAIN: Final = re.compile(r"\^[A-Za-z0-9 /_:.,?*+{}\[\]-]*\$?")
"""Patterns that mean the same to RE2 and to `re`: no alternatives, groups or escapes."""
_UUID: Final = re.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_INTEGERS: Final = frozenset({"int32", "int64", "uint32", "uint64"})
_ZERO: Final = validate_pb2.IGNORE_IF_ZERO_VALUE
_ALWAYS: Final = validate_pb2.IGNORE_ALWAYS

_taught: dict[str, Check] = {}


def teach(expression: str, holds: Check) -> None:
    """What a CEL expression of a message says, in Python. A contract whose expression changes is no longer sure."""
    if _taught.get(expression) is not holds:
        _taught[expression] = holds
        sure_of.cache_clear()


class Sure:
    """The comparisons of one message type."""

    def __init__(self) -> None:
        self._checks: tuple[Check, ...] = ()

    def read(self, descriptor: Descriptor) -> None:
        """Make the comparisons. Apart from `__init__`, since a type may contain itself."""
        checks = [*_of_message(descriptor), *_of_oneofs(descriptor)]
        for field in descriptor.fields:
            check = _of_field(field)
            if check is not None:
                checks.append(check)
        self._checks = tuple(checks)

    def __call__(self, message: Message) -> bool:
        """Whether the message certainly keeps every rule."""
        for check in self._checks:  # noqa: SIM110 - a generator costs as much as the checks, and this runs for every request
            if not check(message):
                return False
        return True

    @property
    def free(self) -> bool:
        """Whether there is nothing to compare: any message of the type keeps the rules."""
        return not self._checks


_made: dict[str, Sure] = {}


@cache
def sure_of(descriptor: Descriptor) -> Sure:
    """The comparisons of the type, read once from its annotations."""
    _made.clear()
    try:
        return _of_type(descriptor)
    finally:
        _made.clear()


def _of_type(descriptor: Descriptor) -> Sure:
    known = _made.get(descriptor.full_name)
    if known is None:
        known = _made[descriptor.full_name] = Sure()
        known.read(descriptor)
    return known


def _never(_: object) -> bool:
    return False


def _of_message(descriptor: Descriptor) -> Iterable[Check]:
    rules: Any = descriptor.GetOptions().Extensions[validate_pb2.message]
    for field, value in rules.ListFields():
        if field.name != "cel":
            yield _never
            continue
        for rule in value:
            yield _taught.get(rule.expression, _never)


def _of_oneofs(descriptor: Descriptor) -> Iterable[Check]:
    for oneof in descriptor.oneofs:
        rules: Any = oneof.GetOptions().Extensions[validate_pb2.oneof]
        if rules.required:
            yield _is_chosen(oneof.name)


def _is_chosen(oneof: str) -> Check:
    return lambda message: message.WhichOneof(oneof) is not None


def _of_field(field: FieldDescriptor) -> Check | None:
    rules = rules_of(field)
    if rules.ignore == _ALWAYS:
        return None
    name, holds = field.name, _holds(field, rules)
    if is_map(field) or field.is_repeated:
        if rules.required:
            return _both(lambda message: len(getattr(message, name)) > 0, _on(name, holds))
        if holds is not None and rules.ignore == _ZERO:
            return lambda message: not len(getattr(message, name)) or holds(getattr(message, name))
        return _on(name, holds)
    if field.has_presence:
        if rules.required:
            return _both(lambda message: message.HasField(name), _on(name, holds))
        if holds is None:
            return None
        return lambda message: not message.HasField(name) or holds(getattr(message, name))
    if (
        not rules.required
        and rules.ignore != _ZERO
        and not _unknown(rules, "string")
        and not _unknown(rules.string, "max_len")
    ):
        # Most fields by far: in one step instead of three.
        most = rules.string.max_len
        return (lambda message: len(getattr(message, name)) <= most) if rules.string.HasField("max_len") else None
    if rules.required:
        return _both(lambda message: bool(getattr(message, name)), _on(name, holds))
    if holds is not None and rules.ignore == _ZERO:
        return lambda message: not getattr(message, name) or holds(getattr(message, name))
    return _on(name, holds)


def _on(name: str, holds: Check | None) -> Check | None:
    return None if holds is None else lambda message: holds(getattr(message, name))


def _both(one: Check, other: Check | None) -> Check:
    return one if other is None else lambda message: one(message) and other(message)


def _holds(field: FieldDescriptor, rules: Any) -> Check | None:
    """Whether a value of the field, or all its entries, keep the rules. None: any value does."""
    if is_map(field):
        return _never if _unknown(rules, "ignore", "required", "map") else _of_map(field, rules.map)
    if field.is_repeated:
        return _never if _unknown(rules, "ignore", "required", "repeated") else _of_list(field, rules.repeated)
    return _of_value(field, rules)


def _unknown(rules: Any, *known: str) -> bool:
    return any(each.name not in known for each, _ in rules.ListFields())


def _of_map(field: FieldDescriptor, rules: Any) -> Check | None:
    if _unknown(rules, "min_pairs", "max_pairs", "keys", "values"):
        return _never
    assert field.message_type is not None
    key, value = field.message_type.fields
    number = _of_number(rules, "min_pairs", "max_pairs", len)
    of_keys, of_values = _of_entries(key, rules.keys), _of_entries(value, rules.values)

    def holds(entries: Any) -> bool:
        if number is not None and not number(entries):
            return False
        for each in entries:
            if of_keys is not None and not of_keys(each):
                return False
            if of_values is not None and not of_values(entries[each]):
                return False
        return True

    return None if number is of_keys is of_values is None else holds


def _of_list(field: FieldDescriptor, rules: Any) -> Check | None:
    if _unknown(rules, "min_items", "max_items", "items"):
        return _never
    number, of_items = _of_number(rules, "min_items", "max_items", len), _of_entries(field, rules.items)
    if of_items is None:
        return number
    return _both(number, lambda items: all(map(of_items, items))) if number else lambda items: all(map(of_items, items))


def _of_entries(field: FieldDescriptor, rules: Any) -> Check | None:
    """The rules of an item, a key or a value, which has no presence of its own."""
    if rules.ignore == _ALWAYS:
        return None
    if rules.required:
        return _never
    holds = _of_value(field, rules)
    if holds is None or rules.ignore != _ZERO:
        return holds
    return _never if field.message_type is not None else lambda value: not value or holds(value)


def _of_value(field: FieldDescriptor, rules: Any) -> Check | None:
    kind = rules.WhichOneof("type")
    if _unknown(rules, "ignore", "required", kind or ""):
        return _never
    if field.message_type is not None:
        if kind is not None:
            return _never
        if field.message_type.full_name.startswith("google.protobuf."):
            return None
        inner = _of_type(field.message_type)
        # A type that contains itself is not read to its end yet.
        return None if inner.free and not _contains(field.message_type, field.message_type) else inner
    match kind:
        case None:
            return None
        case "string":
            return _of_string(rules.string)
        case "bytes":
            return _of_bytes(rules.bytes)
        case "enum":
            return _of_enum(field, rules.enum)
        case _ if kind in _INTEGERS:
            return _of_integer(getattr(rules, kind))
    return _never


@cache
def _contains(outer: Descriptor, sought: Descriptor) -> bool:
    seen: set[str] = set()
    waiting = [outer]
    while waiting:
        for field in waiting.pop().fields:
            inner = field.message_type
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append(inner)
    return sought.full_name in seen


def _of_number(rules: Any, least: str, most: str, measure: Callable[[Any], int]) -> Check | None:
    given = {field.name: value for field, value in rules.ListFields()}
    low, high = given.get(least, 0), given.get(most)
    if high is None:
        return (lambda value: measure(value) >= low) if low else None
    return lambda value: low <= measure(value) <= high


def _of_string(rules: Any) -> Check | None:
    if _unknown(rules, "min_len", "max_len", "pattern", "uuid"):
        return _never
    checks: list[Check] = []
    # Characters, as protovalidate counts them.
    if (number := _of_number(rules, "min_len", "max_len", len)) is not None:
        checks.append(number)
    if rules.uuid:
        checks.append(lambda value: _UUID.fullmatch(value) is not None)
    if rules.HasField("pattern"):
        if not _PLAIN.fullmatch(rules.pattern):
            return _never
        # `$` of `re` matches before a line feed at the end as well.
        whole = rules.pattern.endswith("$")
        matches = re.compile(rules.pattern[1:-1]).fullmatch if whole else re.compile(rules.pattern).match
        checks.append(lambda value: matches(value) is not None)
    if len(checks) > 1:
        return lambda value: all(check(value) for check in checks)
    return checks[0] if checks else None


def _of_bytes(rules: Any) -> Check | None:
    return _never if _unknown(rules, "min_len", "max_len") else _of_number(rules, "min_len", "max_len", len)


def _of_enum(field: FieldDescriptor, rules: Any) -> Check | None:
    if _unknown(rules, "defined_only", "not_in"):
        return _never
    assert field.enum_type is not None
    forbidden = frozenset(rules.not_in)
    if not rules.defined_only:
        return (lambda value: value not in forbidden) if forbidden else None
    allowed = frozenset(field.enum_type.values_by_number) - forbidden
    return lambda value: value in allowed


def _of_integer(rules: Any) -> Check | None:
    if _unknown(rules, "gt", "gte", "lt", "lte"):
        return _never
    low = rules.gt + 1 if rules.HasField("gt") else rules.gte if rules.HasField("gte") else -(2**64)
    high = rules.lt - 1 if rules.HasField("lt") else rules.lte if rules.HasField("lte") else 2**64
    # A lower bound above the upper one means "outside of both" to protovalidate.
    return _never if low > high else lambda value: low <= value <= high
