"""A queue with one line for each tenant: the lines are served in rotation, so that no tenant waits behind all items of another
one."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class FairQueue(Generic[K, V]):
    """Items by the key of their line. It neither waits nor limits: the owner of a queue does both."""

    def __init__(self) -> None:
        self._lines: OrderedDict[K, OrderedDict[V, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: object) -> bool:
        """Whether an item waits in this line."""
        return key in self._lines

    def of(self, key: K) -> int:
        """How many wait in this line."""
        return len(self._lines.get(key, ()))

    def add(self, key: K, item: V) -> None:
        """Append to its line. A line that was empty is served after all others."""
        self._lines.setdefault(key, OrderedDict())[item] = None
        self._count += 1

    def remove(self, key: K, item: V) -> None:
        """Remove it if it still waits."""
        line = self._lines.get(key)
        if line is None or item not in line:
            return
        del line[item]
        self._count -= 1
        if not line:
            del self._lines[key]

    def take(self, may: Callable[[K], bool] = lambda key: True) -> tuple[K, V] | None:
        """Removes the first item of the first line that `may` be served; that line is then the last one. None: there is none."""
        for key, line in self._lines.items():
            if may(key):
                item = next(iter(line))
                self._served(key, item)
                return key, item
        return None

    def serve(self, chosen: Callable[[Iterable[V]], V | None]) -> None:
        """Removes the items that `chosen` returns for each line, in rotation and one at a time, until it returns None for all
        lines."""
        served = bool(self._lines)
        while served:
            served = False
            for key in tuple(self._lines):
                item = chosen(self._lines[key])
                if item is not None:
                    self._served(key, item)
                    served = True

    def _served(self, key: K, item: V) -> None:
        self.remove(key, item)
        if key in self._lines:
            self._lines.move_to_end(key)
