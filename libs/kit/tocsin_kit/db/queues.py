"""A queue whose tasks are rows: its figures, the table `queue_pauses` (whether the queue is paused), and `queue_options`.

Rows, not data in Redis, because a flushed Redis must not let a paused queue run.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Tx

_PAUSE: Final = "INSERT INTO queue_pauses (queue) VALUES ($1) ON CONFLICT (queue) DO NOTHING"
_RESUME: Final = "DELETE FROM queue_pauses WHERE queue = $1"
_OPTIONS: Final = "SELECT options, version FROM queue_options WHERE queue = $1"
_MAKE_OPTIONS: Final = "INSERT INTO queue_options (queue) VALUES ($1) ON CONFLICT (queue) DO NOTHING"
_SET_OPTIONS: Final = """
UPDATE queue_options SET options = $2, version = version + 1, update_time = app_now() WHERE queue = $1 RETURNING version
"""


def paused(queue: str) -> str:
    """The SQL condition that the queue is paused. `queue` is SQL: a literal in its quotes, or a parameter."""
    return f"EXISTS (SELECT FROM queue_pauses WHERE queue = {queue})"


_IS_PAUSED: Final = f"SELECT {paused('$1')}"


@dataclass(frozen=True, slots=True)
class WorkFigures:
    """What workers do and have done. If a record has no such figures, those of Redis are used."""

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
    """Whether no task may be taken from the queue."""
    paused: bool = await tx.fetchval(_IS_PAUSED, queue)
    return paused


async def set_paused(tx: Tx, queue: str, paused: bool) -> None:
    """Pause or resume, on every replica; repeating it changes nothing."""
    await tx.execute(_PAUSE if paused else _RESUME, queue)


@dataclass(frozen=True, slots=True)
class OptionsRow:
    """The chosen options of a queue (`tocsin_kit.tasks.options`), as bytes. `version`: 0 when none was ever chosen."""

    options: bytes = b""
    version: int = 0


async def options(tx: Tx, queue: str, *, lock: bool = False) -> OptionsRow:
    """The row, or an empty one. With `lock` another change waits until this transaction ends, even if there is no row yet."""
    if lock:
        await tx.execute(_MAKE_OPTIONS, queue)
    row = await tx.fetchrow(_OPTIONS + (" FOR UPDATE" if lock else ""), queue)
    return OptionsRow() if row is None else OptionsRow(*row)


async def set_options(tx: Tx, queue: str, options: bytes) -> int:
    """Write those of a locked row; returns its new version."""
    version: int = await tx.fetchval(_SET_OPTIONS, queue, options)
    return version
