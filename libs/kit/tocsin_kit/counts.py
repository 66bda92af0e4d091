"""How many there are of each, of things that come and go."""

from collections import Counter
from collections.abc import Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


class Counts(Counter[K]):
    """A Counter that forgets a key of which none is left, so that it is no larger than what there is."""

    def less(self, key: K, by: int = 1) -> None:
        """So many fewer of one that was counted."""
        left = self[key] - by
        if left > 0:
            self[key] = left
        else:
            del self[key]
