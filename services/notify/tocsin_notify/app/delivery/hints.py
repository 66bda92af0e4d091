"""Hints to come back later. The rows are the record: a hint that is lost costs at most the sweep's second."""

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
        """Remind us of these."""
        ...

    def disarm(self, ids: Sequence[UUID]) -> None:
        """These need no reminder any more."""
        ...

    def now(self, ids: Sequence[UUID]) -> None:
        """These are due already."""
        ...

    def messages(self, due: Sequence[tuple[UUID, float]]) -> None:
        """These messages are due in so many seconds; 0 or less: now. `disarm` takes them back."""
        ...
