"""Hints to come back later. The rows are the record: a lost hint costs at most the second until the next sweep."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol
from uuid import UUID


class Hint(NamedTuple):
    """This notification is due in `delay` seconds."""

    id: UUID
    delay: float
    priority: int


class Hints(Protocol):
    """Takes hints without waiting, and may drop them."""

    def arm(self, hints: Sequence[Hint]) -> None:
        """Remind the deliverer of these at their time."""
        ...

    def disarm(self, ids: Sequence[UUID]) -> None:
        """These need no reminder any more."""
        ...

    def now(self, ids: Sequence[UUID]) -> None:
        """These are due already."""
        ...

    def messages(self, due: Sequence[tuple[UUID, float]]) -> None:
        """These messages are due in so many seconds; 0 or less: now. `disarm` removes the hint."""
        ...
