"""Frozen dataclasses that are made quickly.

The `__init__` that `dataclasses` writes for a frozen class looks up and calls `object.__setattr__` for each field. It takes three
times as long as setting the slots by their descriptors: up to a seventh of a service's processor time under load. The classes
stay frozen, and nothing else of them changes.
"""

import dataclasses
import sys
from collections.abc import Callable
from types import FunctionType, MemberDescriptorType
from typing import Any, Final

_PREFIX: Final = "tocsin_"
_WRITTEN_BY_DATACLASSES: Final = "<string>"
_FILE: Final = "<quick record>"


def quicken_all() -> None:
    """For every frozen dataclass with slots of Tocsin's modules that are imported by now. Repeating it does nothing."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_PREFIX):
            for each in list(vars(module).values()):
                if isinstance(each, type) and each.__module__ == name:
                    quicken(each)


def quicken(cls: type[Any]) -> None:
    """Replace `__init__`, if `dataclasses` wrote it for a frozen class all of whose fields are slots and parameters of it."""
    old = vars(cls).get("__init__")
    if not isinstance(old, FunctionType) or old.__code__.co_filename != _WRITTEN_BY_DATACLASSES:
        return
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return
    names = [each.name for each in dataclasses.fields(cls)]
    setters = {name: _setter(cls, name) for name in names}
    code = old.__code__
    parameters = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    if set(parameters) != set(names) or None in setters.values():
        return
    factories = {
        each.name: each.default_factory
        for each in dataclasses.fields(cls)
        if each.default_factory is not dataclasses.MISSING
    }
    new = _written(old, parameters, setters, factories, then=hasattr(cls, "__post_init__"))
    type.__setattr__(cls, "__init__", new)


def _setter(cls: type, name: str) -> Callable[[object, object], None] | None:
    slot = next((vars(each)[name] for each in cls.__mro__ if name in vars(each)), None)
    return slot.__set__ if isinstance(slot, MemberDescriptorType) else None


def _written(
    old: FunctionType,
    parameters: tuple[str, ...],
    setters: "dict[str, Callable[[object, object], None] | None]",
    factories: "dict[str, Callable[[], object]]",
    *,
    then: bool,
) -> FunctionType:
    """The new function: with the parameters, their kinds and their defaults of the old one."""
    self, positional = old.__code__.co_varnames[0], old.__code__.co_argcount - 1
    # What stands for "use the factory" is the default of such a parameter.
    defaults = dict(zip(reversed(parameters[:positional]), reversed(old.__defaults__ or ()), strict=False))
    defaults |= old.__kwdefaults__ or {}
    known: dict[str, object] = {}
    lines = []
    for name in parameters:
        known[f"_set_{name}"], value = setters[name], name
        if name in factories:
            known |= {f"_make_{name}": factories[name], f"_absent_{name}": defaults[name]}
            value = f"_make_{name}() if {name} is _absent_{name} else {name}"
        lines.append(f"  _set_{name}({self}, {value})")
    if then:
        lines.append(f"  {self}.__post_init__()")
    given = [self, *parameters[:positional], *(("*", *parameters[positional:]) if parameters[positional:] else ())]
    text = "\n".join((f"def __init__({', '.join(given)}):", *(lines or ["  pass"])))
    exec(compile(text, _FILE, "exec"), known)  # noqa: S102 - as `dataclasses` does; it is made of names of fields
    new = known["__init__"]
    assert isinstance(new, FunctionType)
    new.__defaults__, new.__kwdefaults__ = old.__defaults__, old.__kwdefaults__
    new.__annotations__, new.__qualname__, new.__module__ = old.__annotations__, old.__qualname__, old.__module__
    return new
