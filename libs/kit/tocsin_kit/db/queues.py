"""A queue whose tasks are rows: its figures, and the table `queue_pauses`, which says whether it rests.

The pause is a row and no flag in Redis, because a flushed Redis must not let a paused queue run.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Tx

_PAUSE: Final = "INSERT INTO queue_pauses (queue) VALUES ($1) ON CONFLICT (queue) DO NOTHING"
_RESUME: Final = "DELETE FROM queue_pauses WHERE queue = $1"


def paused(queue: str) -> str:
    """The SQL condition that the queue is paused. `queue` is SQL: a literal in its quotes, or a parameter."""
    return f"EXISTS (SELECT FROM queue_pauses WHERE queue = {queue})"


_IS_PAUSED: Final = f"SELECT {paused('$1')}"


@dataclass(frozen=True, slots=True)
class WorkFigures:
    """What workers do and did. Without figures of its own, a record's work is what Redis counts."""

    active: int
    completed: int
    failed: int
    dead: int


@dataclass(frozen=True, slots=True)
class RecordFigures:
    """The rows of a queue, of all tenants, at one instant."""

    delayed: int
    overdue: int
    oldest_overdue_seconds: float
    next_due_time: datetime | None
    work: WorkFigures | None = None


async def is_paused(tx: Tx, queue: str) -> bool:
    """Whether nothing may be taken from the queue."""
    paused: bool = await tx.fetchval(_IS_PAUSED, queue)
    return paused


async def set_paused(tx: Tx, queue: str, paused: bool) -> None:
    """Pause or resume, on every replica; repeating it changes nothing."""
    await tx.execute(_PAUSE if paused else _RESUME, queue)
