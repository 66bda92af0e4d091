"""Fairness among tenants: they alternate."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def alternating(items: Iterable[T], tenant: Callable[[T], str]) -> list[T]:
    """One of every tenant before the second of any; otherwise in their order."""
    places: Counter[str] = Counter()

    def place(item: T) -> int:
        places[tenant(item)] += 1
        return places[tenant(item)]

    return sorted(items, key=place)
