"""Tenants take turns."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def in_turns(items: Iterable[T], tenant: Callable[[T], str]) -> list[T]:
    """One of every tenant before the second of any; otherwise in their order."""
    turns: Counter[str] = Counter()

    def turn(item: T) -> int:
        turns[tenant(item)] += 1
        return turns[tenant(item)]

    return sorted(items, key=turn)
