"""A queue, as its service has it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.queues import RecordFigures
from tocsin_kit.tasks.journal import Journal
from tocsin_kit.tasks.options import LiveOptions
from tocsin_kit.tasks.task import TaskKind


class StreamFigures(Protocol):
    """What Redis counts (`tocsin_timers.QueueFigures`)."""

    @property
    def waiting(self) -> int:
        """In a stream, and given to no worker yet."""

    @property
    def active(self) -> int:
        """Given to a worker."""

    @property
    def completed(self) -> int:
        """Since the queue exists."""

    @property
    def failed(self) -> int:
        """Attempts that failed, since the queue exists."""

    @property
    def dead(self) -> int:
        """Dead letters."""

    @property
    def oldest_waiting_seconds(self) -> float:
        """Age of what has waited longest."""


class Stream(Protocol):
    """The queue in Redis (`tocsin_timers.TimerMirror`). Neither method raises because Redis is away."""

    async def look(self) -> tuple[StreamFigures | None, bool]:
        """Its figures, unless it cannot be read; and whether it stores what it is given."""
        ...

    async def tell_pause(self, paused: bool) -> None:
        """Tell its workers."""
        ...


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Queue:
    """What operators see of a queue, and change."""

    name: str
    stream: Stream
    figures: Callable[[Tx], Awaitable[RecordFigures]]
    """Reads the rows in a transaction of all tenants."""
    kinds: Sequence[TaskKind]
    """Of its tasks."""
    journal: Journal
    live: LiveOptions
    """Its options."""
    resumed: Callable[[], None] = _nothing
    """Called after a pause is over."""
