"""The record's figures as metrics."""

from tocsin_kit.db.pool import Database

from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store import queues


class Gauges:
    """Reads what `QueueService` shows, every few seconds."""

    def __init__(self, db: Database, metrics: NotifyMetrics) -> None:
        self._db = db
        self._metrics = metrics

    async def __call__(self) -> None:
        """One reading."""
        async with self._db.system() as tx:
            figures = await queues.figures(tx)
            slow_retries = await queues.count_slow_retries(tx)
        work = figures.work
        assert work is not None, "the record counts its own work"
        metrics = self._metrics
        metrics.queue.labels("pending").set(figures.delayed)
        metrics.queue.labels("overdue").set(figures.overdue)
        metrics.queue.labels("sending").set(work.active)
        metrics.slow_retries.set(slow_retries)
        metrics.oldest_overdue_seconds.set(figures.oldest_overdue_seconds)
        metrics.dead_waiting.set(work.dead)
