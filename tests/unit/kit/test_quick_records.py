"""Frozen dataclasses are made quickly, and behave as those that `dataclasses` makes."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, InitVar, dataclass, field, replace
from inspect import signature
from typing import Any, Final

import pytest
from tocsin_kit.quick_records import quicken


@dataclass(frozen=True, slots=True)
class Base:
    name: str
    count: int = 3


@dataclass(frozen=True, slots=True)
class Derived(Base):
    """Fields of its base, defaults of all kinds, and a check."""

    seen: list[str] = field(default_factory=list)
    label: str = field(kw_only=True, default="none")
    place: int = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("a count is not negative")


@dataclass(frozen=True, slots=True)
class Narrowed(Derived):
    count: int = 5


@dataclass(frozen=True, slots=True)
class Empty: ...


@dataclass(frozen=True)
class WithoutSlots:
    name: str


@dataclass(frozen=True, slots=True)
class WithoutParameter:
    name: str
    made: int = field(init=False, default=1)


@dataclass(frozen=True, slots=True)
class Computed:
    name: str
    given: InitVar[str]


@dataclass(frozen=True, slots=True, init=False)
class OwnInit:
    name: str

    def __init__(self) -> None:
        object.__setattr__(self, "name", "own")


@dataclass(slots=True)
class Open:
    name: str


_RECORDS: Final[list[type[Any]]] = [Base, Derived, Narrowed, Empty]
_OTHERS: Final[list[type[Any]]] = [WithoutSlots, WithoutParameter, Computed, OwnInit, Open]
_BEFORE: Final = {each: (vars(each)["__init__"], signature(each)) for each in (*_RECORDS, *_OTHERS)}
for _each in _BEFORE:
    quicken(_each)


@pytest.mark.parametrize("record", _RECORDS)
def test_a_frozen_class_takes_the_same_arguments(record: type[Any]) -> None:
    init, accepted = _BEFORE[record]
    assert vars(record)["__init__"] is not init
    assert signature(record) == accepted


@pytest.mark.parametrize("other", _OTHERS)
def test_a_class_of_another_kind_is_left_as_it_is(other: type[Any]) -> None:
    assert vars(other)["__init__"] is _BEFORE[other][0]


def test_every_field_has_what_was_given_or_its_default() -> None:
    one = Derived("a", place=7)
    assert one == Derived("a", 3, [], label="none", place=7)
    assert Narrowed("a", place=1).count == 5
    assert Derived("b", 1, ["x"], label="l", place=2).seen == ["x"]


def test_each_object_has_a_list_of_its_own() -> None:
    one, other = Derived("a", place=1), Derived("a", place=1)
    one.seen.append("x")
    assert other.seen == []


def test_a_frozen_object_stays_frozen_and_keeps_its_hash() -> None:
    one: Any = Base("a")
    with pytest.raises(FrozenInstanceError):
        one.name = "b"
    assert hash(one) == hash(Base("a", 3))


def test_a_check_of_the_class_runs() -> None:
    with pytest.raises(ValueError, match="not negative"):
        Derived("a", -1, place=1)


@pytest.mark.parametrize("copied", [replace, copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_equals_it(copied: Callable[[Any], object]) -> None:
    one = Derived("a", 1, ["x"], place=2)
    assert copied(one) == one


@pytest.mark.parametrize("arguments", [(), ("a", 1, [], "more")])
def test_wrong_arguments_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        Derived(*arguments, place=1)


def test_quickening_twice_changes_nothing() -> None:
    init = vars(Base)["__init__"]
    quicken(Base)
    assert vars(Base)["__init__"] is init
