"""Counts of objects that come and go."""

from collections import Counter
from collections.abc import Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


class Counts(Counter[K]):
    """A Counter that drops a key whose count is 0, so that it is never larger than what it counts."""

    def less(self, key: K, by: int = 1) -> None:
        """Decrease the count of a key."""
        left = self[key] - by
        if left > 0:
            self[key] = left
        else:
            del self[key]
