"""Shape rules: what the `buf.validate` annotations of a message demand, reported field by field.

The only module that knows protovalidate, so that its engine can be replaced. It words every violation, and is not asked about
messages that certainly have none (`tocsin_kit.rpc.precheck`).
"""

from typing import Any, Final

import protovalidate
from google.protobuf.message import Message

from tocsin_kit.errors import FieldViolation, invalid_fields
from tocsin_kit.rpc.bounds import bounds_of, key_path
from tocsin_kit.rpc.pattern_words import in_words
from tocsin_kit.rpc.precheck import precheck_of
from tocsin_kit.rpc.rule_words import by_names
from tocsin_kit.rpc.storable import is_storable, make_storable, repairs

_validator: Final = protovalidate.Validator()
_warm: Final = set[type[Message]]()
"""What `warm` has compiled: tests start many services in one process."""
MAX_VIOLATIONS: Final = 50
"""Reported at most, so that a hostile message cannot make an answer larger than itself."""
_FEW_ENTRIES: Final = 200
"""With more entries in its lists, a message is told its first violation only: each costs some 10 µs to collect."""


def validate(message: Message, prefix: str = "") -> None:
    """Raises INVALID_FIELD with one violation per field that breaks a rule; paths begin with `prefix`, if given.

    Entries are counted before one is looked at (`tocsin_kit.rpc.bounds`). Text that cannot be stored breaks a rule too;
    in what machines write it is repaired first (`tocsin_kit.rpc.storable`). A message of many entries is told its first
    violation, and its text is looked through only when it has none; a message of few is told all, at most 50. Call it
    for each item of a batch whose items the annotations leave out: `validate(item, f"items[{i}]")`.
    """
    storable_first = repairs(message)
    if storable_first:
        message.DiscardUnknownFields()
    # Serialized once: a message of 300,000 empty items takes 12 ms each time, which is as long as it takes to read.
    data = message.SerializeToString()
    if is_valid(message, data):
        return
    size = len(data)
    bounds = bounds_of(message.DESCRIPTOR)
    if bounds.counts:
        excess = bounds.excess(message, prefix)
        if excess is not None:
            raise invalid_fields((excess,))
    if storable_first:
        make_storable(message, prefix, data)
        size = message.ByteSize()
    sure = precheck_of(message.DESCRIPTOR)(message, size)
    violations = [] if sure else _validator.collect_violations(message, fail_fast=True)
    if violations and bounds.counts and bounds.entries(message, _FEW_ENTRIES) > _FEW_ENTRIES:
        raise invalid_fields(_by_field(message, violations, prefix))
    if not storable_first:
        make_storable(message, prefix, data)
    if violations:
        raise invalid_fields(_by_field(message, _validator.collect_violations(message), prefix))


def is_valid(message: Message, data: bytes) -> bool:
    """Tells in a moment that `validate` would find and repair nothing; False: it must be asked.

    `data`: the message serialized. It has no unknown fields.
    """
    descriptor = message.DESCRIPTOR
    return (
        len(data) <= bounds_of(descriptor).few_bytes
        and is_storable(message, data)
        and precheck_of(descriptor)(message, len(data))
    )


def warm(message_type: type[Message]) -> None:
    """Compile the type's rules now, which takes milliseconds, and not while the first caller waits."""
    if message_type not in _warm:
        bounds_of(message_type.DESCRIPTOR)
        precheck_of(message_type.DESCRIPTOR)
        _validator.collect_violations(message_type())
        _warm.add(message_type)


def _by_field(message: Message, violations: list[protovalidate.Violation], prefix: str) -> list[FieldViolation]:
    found: dict[str, FieldViolation] = {}
    for violation in violations[: 4 * MAX_VIOLATIONS]:
        proto = violation.proto
        path = _path(proto.field, prefix)
        if path not in found and len(found) < MAX_VIOLATIONS:
            said = by_names(message, proto) or in_words(proto.message)
            found[path] = FieldViolation(path, said or f"breaks the rule {proto.rule_id}")
    return list(found.values())


def _path(field: Any, prefix: str) -> str:
    path = prefix
    for element in field.elements if field is not None else ():
        path = f"{path}.{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            path = key_path(path, subscript.value)
    return path
