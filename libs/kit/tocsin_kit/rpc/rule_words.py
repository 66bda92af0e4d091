"""What a broken rule about an enum or a oneof asks for, by name: the rule engine tells numbers, or only that there is a oneof."""

import re
from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

_LISTED: Final = re.compile(r"must not be in list \[([0-9, ]+)\]")
_ENUM_RULES: Final = ("enum.not_in", "enum.defined_only")
_MOST_VALUES: Final = 20
"""More of them are not told one by one: the contract names them."""


def by_names(message: Message, violation: Any) -> str:
    """The words for a `buf.validate.Violation` of this message; empty for all other rules."""
    if not violation.field:  # a rule about the message as a whole
        return ""
    elements = [element.field_name for element in violation.field.elements]
    owner: Any = message.DESCRIPTOR
    for name in elements[:-1]:
        field = owner.fields_by_name.get(name) if owner is not None else None
        owner = None if field is None else _message_in(field)
    if owner is None:
        return ""
    oneof = owner.oneofs_by_name.get(elements[-1])
    if oneof is not None:
        return f"must be set: one of {', '.join(field.name for field in oneof.fields)}"
    field = owner.fields_by_name.get(elements[-1])
    enum = None if field is None else field.enum_type
    if enum is None or violation.rule_id not in _ENUM_RULES:
        return ""
    listed = _LISTED.fullmatch(violation.message)
    return _values(enum, listed[1] if listed else "0")


@lru_cache(256)
def _values(enum: EnumDescriptor, refused: str) -> str:
    numbers = {int(number) for number in refused.split(",")}
    names = [value.name for value in enum.values if value.number not in numbers]
    return (
        f"must be one of {', '.join(names)}" if len(names) <= _MOST_VALUES else f"must be a value of {enum.full_name}"
    )


def _message_in(field: FieldDescriptor) -> Descriptor | None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return inner.fields_by_name["value"].message_type
    return inner
