"""Immutable dataclasses, of which a batch makes thousands."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """As `dataclass(frozen=True, slots=True)`, but only the type checker prevents changes.

    Python's own frozen dataclasses take three times as long to create: a sixth of the processor time of a repeated alert.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
