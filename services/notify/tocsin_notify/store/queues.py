"""The queue's record: pauses, counters, figures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.page import CRITICAL, SLOW

QUEUE: Final = "notify"

_FIGURES: Final = """
SELECT
  (SELECT count(*) FROM notifications WHERE state = 'pending' AND due_time > app_now()) AS delayed,
  (SELECT count(*) FROM notifications WHERE state = 'pending' AND due_time <= app_now()) AS overdue,
  (SELECT count(*) FROM notifications WHERE state = 'sending') AS sending,
  (SELECT count(*) FROM dead_letters WHERE redrive_time IS NULL) AS dead,
  (SELECT coalesce(sum(completed), 0)::bigint FROM queue_counters WHERE queue = 'notify') AS completed,
  (SELECT coalesce(sum(failed), 0)::bigint FROM queue_counters WHERE queue = 'notify') AS failed,
  (SELECT greatest(0, extract(epoch FROM app_now() - min(due_time)))::float8 FROM notifications
    WHERE state = 'pending' AND due_time <= app_now()) AS oldest_overdue_seconds,
  (SELECT min(due_time) FROM notifications WHERE state = 'pending' AND due_time > app_now()) AS next_due_time,
  EXISTS (SELECT FROM queue_pauses WHERE queue = 'notify') AS paused
"""

_SLOW_RETRIES: Final = """
SELECT (SELECT count(*) FROM notifications WHERE state = 'pending' AND priority >= $1)
  + (SELECT count(*) FROM notifications WHERE state = 'sending' AND priority >= $1)
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """The record at one instant. Counts are of what is alive, so they do not grow with history."""

    delayed: int
    overdue: int
    sending: int
    dead: int
    completed: int
    failed: int
    oldest_overdue_seconds: float | None
    next_due_time: datetime | None
    paused: bool


async def figures(tx: Tx) -> Figures:
    """Of all tenants: run it in a transaction of all tenants."""
    row = await tx.fetchrow(_FIGURES)
    assert row is not None
    return Figures(**dict(row))


async def count_slow_retries(tx: Tx) -> int:
    """How many notifications are tried on for want of another method, of all tenants."""
    count: int = await tx.fetchval(_SLOW_RETRIES, SLOW[CRITICAL])
    return count


async def set_paused(tx: Tx, paused: bool) -> None:
    """From the next claim on, on every replica."""
    if paused:
        await tx.execute("INSERT INTO queue_pauses (queue) VALUES ($1) ON CONFLICT (queue) DO NOTHING", QUEUE)
    else:
        await tx.execute("DELETE FROM queue_pauses WHERE queue = $1", QUEUE)


async def is_paused(tx: Tx) -> bool:
    """Whether nobody may claim."""
    paused: bool = await tx.fetchval("SELECT EXISTS (SELECT FROM queue_pauses WHERE queue = $1)", QUEUE)
    return paused
