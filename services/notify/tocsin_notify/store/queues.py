"""The figures of the queue's rows. Counts cover only unfinished rows, so they do not grow with history."""

from typing import Final

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.queues import RecordFigures, WorkFigures, paused

from tocsin_notify.domain.page import CRITICAL, DIGESTS, NORMAL, SLOW

QUEUE: Final = "notify"
PAUSED: Final = paused(f"'{QUEUE}'")
"""The condition of a statement that the queue is paused."""

# Digests raise no alarm: thousands of them may wait for minutes, behind all other notifications.
_FIGURES: Final = f"""
SELECT
  (SELECT count(*) FROM notifications WHERE state = 'pending' AND due_time > app_now())
    + (SELECT count(*) FROM messages WHERE state = 'scheduled' AND send_time > app_now()) AS delayed,
  (SELECT count(*) FROM notifications WHERE state = 'pending' AND due_time <= app_now())
    + (SELECT count(*) FROM messages WHERE state = 'scheduled' AND send_time <= app_now()) AS overdue,
  (SELECT count(*) FROM notifications WHERE state = 'sending') AS active,
  (SELECT count(*) FROM dead_letters WHERE redrive_time IS NULL) AS dead,
  (SELECT coalesce(sum(completed), 0)::bigint FROM queue_counters WHERE queue = 'notify') AS completed,
  (SELECT coalesce(sum(failed), 0)::bigint FROM queue_counters WHERE queue = 'notify') AS failed,
  coalesce(greatest(0, extract(epoch FROM app_now() - least(
    (SELECT min(due_time) FROM notifications WHERE state = 'pending' AND due_time <= app_now() AND priority <> {DIGESTS}),
    (SELECT min(send_time) FROM messages WHERE state = 'scheduled' AND send_time <= app_now())))), 0)::float8
    AS oldest_overdue_seconds,
  least((SELECT min(due_time) FROM notifications WHERE state = 'pending' AND due_time > app_now()),
    (SELECT min(send_time) FROM messages WHERE state = 'scheduled' AND send_time > app_now())) AS next_due_time
"""

_SLOW_RETRIES: Final = """
SELECT (SELECT count(*) FROM notifications WHERE state = 'pending' AND priority BETWEEN $1 AND $2)
  + (SELECT count(*) FROM notifications WHERE state = 'sending' AND priority BETWEEN $1 AND $2)
"""


async def figures(tx: Tx) -> RecordFigures:
    """Of all tenants: run it in a transaction of all tenants. The tasks are provider calls: `failed` counts attempts."""
    row = await tx.fetchrow(_FIGURES)
    assert row is not None, "an aggregate has one row"
    return RecordFigures(
        row["delayed"],
        row["overdue"],
        row["oldest_overdue_seconds"],
        row["next_due_time"],
        WorkFigures(row["active"], row["completed"], row["failed"], row["dead"]),
    )


async def count_slow_retries(tx: Tx) -> int:
    """How many notifications are slow retries because there is no other method, of all tenants."""
    count: int = await tx.fetchval(_SLOW_RETRIES, SLOW[CRITICAL], SLOW[NORMAL])
    return count
