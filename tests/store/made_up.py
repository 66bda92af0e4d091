"""Arguments for any function, made up from its type hints: one id and one text everywhere.

Times are those of the rows, a day before or a day after, by round, so that a page behind a row and one in front of it is asked for.
"""

import collections.abc
import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

ID: Final = UUID("018f0000-0000-7000-8000-000000000001")
TEXT: Final = "a"
CLOCK: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PLAIN: Final[dict[object, object]] = {
    UUID: ID,
    str: TEXT,
    int: 1,
    float: 1.0,
    bytes: b"\0",
    timedelta: timedelta(0),
    object: None,
    Any: None,
}


class Maker:
    """Values of a type; flags, members of an enum, times and what may be left out depend on the round's number."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._time = CLOCK + timedelta(days=(0, -1, 1)[(number // 2) % 3])

    def arguments(self, function: Callable[..., object]) -> dict[str, object]:
        """All but the first, which is the transaction."""
        return {name: self._named(name, hint) for name, hint in _parameters(function).items()}

    def _named(self, name: str, hint: Any) -> Any:
        return "" if hint is str and name.startswith("after") else self.value(hint)

    def value(self, hint: Any) -> Any:
        """Raises TypeError for a type whose parts have no hints."""
        if hint is datetime:
            return self._time
        if hint in _PLAIN:
            return _PLAIN[hint]
        if hint is bool:
            return self._number % 2 == 1
        if hint is type(None):
            return None
        origin, parts = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            choices = [part for part in parts if part is not type(None)]
            return None if len(choices) < len(parts) and self._number % 3 == 2 else self.value(choices[0])
        if origin is collections.abc.Callable:
            return lambda *_: self.value(parts[-1])
        if origin is tuple:
            return tuple(self.value(part) for part in parts if part is not ...)
        if origin in (dict, collections.abc.Mapping):
            return {self.value(parts[0]): self.value(parts[1])}
        if origin in (set, frozenset):
            return origin([self.value(parts[0])])
        if origin is not None and issubclass(origin, collections.abc.Iterable):
            return [self.value(parts[0])]
        return self._built(hint)

    def _built(self, hint: Any) -> Any:
        if issubclass(hint, enum.Enum):
            return list(hint)[self._number % len(hint)]
        if hasattr(hint, "__dataclass_fields__"):
            hints = _hints(hint)
            given = {
                each.name: self.value(hints[each.name])
                for each in dataclasses.fields(hint)
                if each.init and not (self._number % 3 == 1 and _has_default(each))
            }
            return hint(**given)
        if hasattr(hint, "_fields"):
            return hint(**{name: self.value(each) for name, each in _hints(hint).items()})
        hints = _hints(hint.__init__)
        return hint(**{name: self.value(each) for name, each in hints.items() if name != "return"})


@functools.cache
def _parameters(function: Callable[..., object]) -> dict[str, Any]:
    """The type of each but the first."""
    hints = _hints(function)
    return {name: hints[name] for name in list(inspect.signature(function).parameters)[1:]}


@functools.cache
def _hints(of: Any) -> dict[str, Any]:
    """Kept: the same functions are called dozens of times, and to read their types takes longer than to call them."""
    return typing.get_type_hints(of)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
