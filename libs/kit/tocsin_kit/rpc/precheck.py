"""Finds out quickly that a message breaks no rule, so that the rule engine is asked only about the others.

protovalidate takes 15 µs for a small message: it copies the message, and evaluates each rule as an expression. The rules that
nearly every field has (lengths, numbers of entries, forms of names, defined enum values) are read once per message type and
written here as one Python function, as `dataclasses` writes its methods: a function for each rule would take three times as long.
The answer is one-sided. Yes means that protovalidate would find no violation. No means that it must be asked: a rule may be
broken, or is of a kind that is not known here. So no rule is weakened and no violation is reported here. A test compares both on
generated messages of every request type.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import chain, groupby
from keyword import iskeyword
from typing import Any, Final, NamedTuple

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tocsin_kit.rpc.bounds import is_map, rules_of

Check = Callable[[Any, int], bool]
"""Whether a message certainly keeps every rule. The number: its bytes, or those of a message that it is in."""


class Part(NamedTuple):
    """A comparison. Messages of at most `above` bytes keep the rule and are not examined."""

    above: int
    says: Callable[[str], str]
    """The comparison as a Python expression, of an expression for the value."""


_EACH: Final = -1
"""`above` for a rule that needs every message examined."""
_NONE: Final = 1 << 60
"""`above` for a rule that no message can break."""
_PLAIN: Final = re.compile(r"\^[A-Za-z0-9 /_:.,?*+{}\[\]-]*\$?")
"""Patterns that mean the same to RE2 and to `re`: no alternatives, groups or escapes."""
_UUID: Final = re.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_INTEGERS: Final = frozenset({"int32", "int64", "uint32", "uint64"})
_ZERO: Final = validate_pb2.IGNORE_IF_ZERO_VALUE
_ALWAYS: Final = validate_pb2.IGNORE_ALWAYS
_NEVER: Final = [Part(_EACH, lambda value: "False")]
_FILE: Final = "<precheck>"

_taught: dict[str, Callable[[Any], bool]] = {}


def register_rule(expression: str, holds: Callable[[Any], bool]) -> None:
    """What a CEL expression of a message says, in Python. A contract whose expression changes is no longer sure."""
    if _taught.get(expression) is not holds:
        _taught[expression] = holds
        precheck_of.cache_clear()


@cache
def precheck_of(descriptor: Descriptor) -> Check:
    """The comparisons of the type, read once from its annotations."""
    writer = _Writer()
    function = writer.type(descriptor).function
    return writer.written(function)


class _Type:
    """What one message type is compared by. `above`: messages of at most so many bytes keep all rules."""

    def __init__(self, function: str) -> None:
        self.function: Final = function
        # Until it is read to its end: one that contains itself must be looked at each time.
        self.above = _EACH


class _Writer:
    """Writes the functions of a message type and of what is in it. They take a value, and the bytes of the outermost message."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._known: dict[str, Any] = {}
        self._types: dict[str, _Type] = {}

    def written(self, function: str) -> Check:
        """The function with this name."""
        # Names of fields, numbers, and names that are given here: nothing else of a contract is in the text.
        exec(compile("\n".join(self._lines), _FILE, "exec"), self._known)  # noqa: S102 - as `dataclasses` does
        found: Check = self._known[function]
        return found

    def type(self, descriptor: Descriptor) -> _Type:
        """A message type, which is written when it is asked for first."""
        known = self._types.get(descriptor.full_name)
        if known is None:
            known = self._types[descriptor.full_name] = _Type(self._name(None))
            of_fields = chain.from_iterable(map(self._of_field, descriptor.fields))
            parts = sorted((*self._of_message(descriptor), *_of_oneofs(descriptor), *of_fields), key=_above)
            self._write(known.function, "value", parts)
            known.above = parts[0].above if parts else _NONE
        return known

    def _name(self, thing: Any) -> str:
        name = f"_{len(self._known)}"
        self._known[name] = thing
        return name

    def _write(self, function: str, of: str, parts: Iterable[Part], before: str = "", indent: str = "  ") -> None:
        """`before`: a line before the comparisons, which are about `of`. `parts`: in the order of `above`."""
        self._lines += (f"def {function}(value, size):", *((before,) if before else ()))
        for above, same in groupby(parts, _above):
            if above > _EACH:
                self._lines.append(f"{indent}if size <= {above}: return True")
            self._lines += (f"{indent}if not ({each.says(of)}): return False" for each in same)
        self._lines.append("  return True")

    def _of_message(self, descriptor: Descriptor) -> Iterable[Part]:
        rules: Any = descriptor.GetOptions().Extensions[validate_pb2.message]
        for field, value in rules.ListFields():
            if field.name != "cel":
                yield from _NEVER
                continue
            for rule in value:
                holds = _taught.get(rule.expression)
                yield from _NEVER if holds is None else (self._call(holds),)

    def _call(self, holds: Callable[[Any], Any], beside: str = "") -> Part:
        name = self._name(holds)
        return Part(_EACH, lambda value: f"{name}({value}){beside}")

    def _of_field(self, field: FieldDescriptor) -> Iterable[Part]:
        """Comparisons of the message that the field is in."""
        rules = rules_of(field)
        if rules.ignore == _ALWAYS:
            return
        if rules.required:
            yield Part(_EACH, partial(_is_given, field))
        for above, says in self._of_rules(field, rules):
            yield Part(above, partial(_on, field, rules, says))

    def _of_rules(self, field: FieldDescriptor, rules: Any) -> Iterable[Part]:
        """Comparisons of a value of the field, or of all its entries together."""
        if is_map(field):
            return _NEVER if _unknown(rules, "ignore", "required", "map") else self._of_map(field, rules.map)
        if field.is_repeated:
            return _NEVER if _unknown(rules, "ignore", "required", "repeated") else self._of_list(field, rules.repeated)
        return self._of_value(field, rules)

    def _of_map(self, field: FieldDescriptor, rules: Any) -> Iterable[Part]:
        if _unknown(rules, "min_pairs", "max_pairs", "keys", "values"):
            return _NEVER
        assert field.message_type is not None
        key, value = field.message_type.fields
        keys = type(rules.keys).FromString(rules.keys.SerializeToString())
        named = keys.string.min_len == 1 and keys.ignore != _ZERO
        if named:
            keys.string.ClearField("min_len")
        return [
            *_of_number(rules, "min_pairs", "max_pairs"),
            # In one look instead of one at each key.
            *([Part(_EACH, lambda entries: f"'' not in {entries}")] if named else ()),
            *self._of_all("each", self._of_entries(key, keys)),
            *self._of_all("value[each]", self._of_entries(value, rules.values)),
        ]

    def _of_list(self, field: FieldDescriptor, rules: Any) -> Iterable[Part]:
        if _unknown(rules, "min_items", "max_items", "items"):
            return _NEVER
        return [
            *_of_number(rules, "min_items", "max_items"),
            *self._of_all("each", self._of_entries(field, rules.items)),
        ]

    def _of_all(self, of: str, parts: Iterable[Part]) -> Iterable[Part]:
        """Of all items of a list, or all keys (`each`) or values (`value[each]`) of a map."""
        for above, same in groupby(sorted(parts, key=_above), _above):
            name = self._name(None)
            self._write(
                name, of, [Part(_EACH, each.says) for each in same], before="  for each in value:", indent="    "
            )
            # Most lists and maps are empty.
            yield Part(above, partial("(not len({1}) or {0}({1}, size))".format, name))

    def _of_entries(self, field: FieldDescriptor, rules: Any) -> Iterable[Part]:
        """The rules of an item, a key or a value, which has no presence of its own."""
        if rules.ignore == _ALWAYS:
            return ()
        if rules.required:
            return _NEVER
        parts = self._of_value(field, rules)
        if rules.ignore != _ZERO:
            return parts
        if field.message_type is not None:
            return _NEVER
        return [Part(above, partial(_unless_zero, says)) for above, says in parts]

    def _of_value(self, field: FieldDescriptor, rules: Any) -> Iterable[Part]:
        kind = rules.WhichOneof("type")
        if _unknown(rules, "ignore", "required", kind or ""):
            return _NEVER
        if field.message_type is not None:
            if kind is not None:
                return _NEVER
            if field.message_type.full_name.startswith("google.protobuf."):
                return ()
            inner = self.type(field.message_type)
            name = inner.function
            return () if inner.above == _NONE else (Part(inner.above, lambda value: f"{name}({value}, size)"),)
        match kind:
            case None:
                return ()
            case "string":
                return self._of_string(rules.string)
            case "bytes":
                return _of_bytes(rules.bytes)
            case "enum":
                return self._of_enum(field, rules.enum)
            case _ if kind in _INTEGERS:
                return _of_integer(getattr(rules, kind))
        return _NEVER

    def _of_string(self, rules: Any) -> Iterable[Part]:
        if _unknown(rules, "min_len", "max_len", "pattern", "uuid"):
            return _NEVER
        # Characters, as protovalidate counts them.
        parts = [*_of_number(rules, "min_len", "max_len")]
        if rules.uuid:
            parts.append(self._call(_UUID.fullmatch, " is not None"))
        if rules.HasField("pattern"):
            if not _PLAIN.fullmatch(rules.pattern):
                return _NEVER
            # `$` of `re` matches before a line feed at the end as well.
            whole = rules.pattern.endswith("$")
            matches = re.compile(rules.pattern[1:-1]).fullmatch if whole else re.compile(rules.pattern).match
            parts.append(self._call(matches, " is not None"))
        return parts

    def _of_enum(self, field: FieldDescriptor, rules: Any) -> Iterable[Part]:
        if _unknown(rules, "defined_only", "not_in"):
            return _NEVER
        assert field.enum_type is not None
        forbidden = frozenset(rules.not_in)
        if not rules.defined_only:
            name = self._name(forbidden)
            return (Part(_EACH, lambda value: f"{value} not in {name}"),) if forbidden else ()
        name = self._name(frozenset(field.enum_type.values_by_number) - forbidden)
        return (Part(_EACH, lambda value: f"{value} in {name}"),)


def _above(part: Part) -> int:
    return part.above


def _of_oneofs(descriptor: Descriptor) -> Iterable[Part]:
    for oneof in descriptor.oneofs:
        rules: Any = oneof.GetOptions().Extensions[validate_pb2.oneof]
        if rules.required:
            yield Part(_EACH, partial("{1}.WhichOneof({0!r}) is not None".format, oneof.name))


def _is_given(field: FieldDescriptor, message: str) -> str:
    return f"{message}.HasField({field.name!r})" if field.has_presence else _get(field, message)


def _on(field: FieldDescriptor, rules: Any, says: Callable[[str], str], message: str) -> str:
    said = says(_get(field, message))
    if not rules.required and field.has_presence:
        return f"not {message}.HasField({field.name!r}) or {said}"
    if not rules.required and rules.ignore == _ZERO:
        return f"not {_get(field, message)} or {said}"
    return said


def _get(field: FieldDescriptor, message: str) -> str:
    # A field may be called as a word of Python is.
    return f"{message}.{field.name}" if not iskeyword(field.name) else f"getattr({message}, {field.name!r})"


def _unless_zero(says: Callable[[str], str], value: str) -> str:
    return f"(not {value} or {says(value)})"


def _unknown(rules: Any, *known: str) -> bool:
    return any(each.name not in known for each, _ in rules.ListFields())


def _of_number(rules: Any, least: str, most: str) -> Iterable[Part]:
    """Of what a message holds fewer of than it has bytes: characters, bytes and entries."""
    given = {field.name: value for field, value in rules.ListFields()}
    low, high = given.get(least, 0), given.get(most)
    if low:
        yield Part(_EACH, partial("len({1}) >= {0}".format, low))
    if high is not None:
        yield Part(high, partial("len({1}) <= {0}".format, high))


def _of_bytes(rules: Any) -> Iterable[Part]:
    return _NEVER if _unknown(rules, "min_len", "max_len") else _of_number(rules, "min_len", "max_len")


def _of_integer(rules: Any) -> Iterable[Part]:
    if _unknown(rules, "gt", "gte", "lt", "lte"):
        return _NEVER
    low = rules.gt + 1 if rules.HasField("gt") else rules.gte if rules.HasField("gte") else -(2**64)
    high = rules.lt - 1 if rules.HasField("lt") else rules.lte if rules.HasField("lte") else 2**64
    # A lower bound above the upper one means "outside of both" to protovalidate.
    return _NEVER if low > high else (Part(_EACH, lambda value: f"{low} <= {value} <= {high}"),)
