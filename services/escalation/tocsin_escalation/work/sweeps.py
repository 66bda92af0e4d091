"""The loops that make Redis disposable: they fire overdue timers, add timers that are due soon to Redis again, and find
impossible states."""

from functools import partial
from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.db.requests import sweep_requests
from tocsin_kit.db.retention import Delete, delete_in_batches

from tocsin_escalation.app.incidents.audit import repair_missing_timers
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.fire_timers import sweep_overdue
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.store.access import api_keys, revocations
from tocsin_escalation.store.figures import counting
from tocsin_escalation.store.incidents import escalations, feeds, timers
from tocsin_escalation.store.notices import shift_notices
from tocsin_escalation.store.schedules import absences, fixed_periods, overrides, swaps
from tocsin_escalation.work.tasks import QUEUE

REARM_CHUNK: Final = 5000
PLANNED_KEPT_DAYS: Final = 400
"""As long as closed versions of layers: a schedule answers about its past with both."""
NOTICES_KEPT_DAYS: Final = 2
"""How long notices that were sent are shown, as the contract says."""
KEYS_KEPT_DAYS: Final = 30
"""How long a key that was revoked or has expired is shown, as the contract says."""
PLANNED: Final = (overrides.TABLE, fixed_periods.TABLE, absences.TABLE, swaps.TABLE)


class Sweeps:
    """Escalation's rounds. Each method is one round."""

    def __init__(self, db: Database, effects: Effects, settings: EscalationSettings) -> None:
        self._db = db
        self._effects = effects
        self._settings = settings

    async def fire_overdue(self) -> None:
        """Fire timers that Redis did not: late by at most the sweep's interval."""
        grace, batch = self._settings.sweep_grace_seconds, self._settings.sweep_batch
        while await sweep_overdue(self._db, self._effects, QUEUE, grace, batch) == batch:
            pass

    async def rearm_soon(self) -> None:
        """Add timers that are due soon to Redis again: an addition that was lost with its process costs no more than this."""
        async with self._db.system() as tx:
            soon = await timers.due_within(tx, self._settings.rearm_ahead_seconds, REARM_CHUNK)
            now = await tx.now()
        self._effects.arming.arm(soon, now)

    async def audit(self) -> None:
        """A running escalation without a timer would never page again: count it, log an error, repair it."""
        repaired = await repair_missing_timers(self._db, self._effects)
        self._effects.metrics.timers_missing.set(repaired)

    async def measure(self) -> None:
        """The record's figures as metrics."""
        async with self._db.system() as tx:
            figures = await timers.figures(tx)
        metrics = self._effects.metrics
        metrics.queue.labels("delayed").set(figures.delayed)
        metrics.queue.labels("overdue").set(figures.overdue)
        metrics.oldest_overdue_seconds.set(figures.oldest_overdue_seconds)

    async def forget(self) -> None:
        """Retention: rows older than their time, and answers kept for repeats."""
        await sweep_requests(self._db)
        old: list[Delete] = [
            *(partial(table.delete_ended, older_than_days=PLANNED_KEPT_DAYS) for table in PLANNED),
            partial(api_keys.delete_over, older_than_days=KEYS_KEPT_DAYS),
            revocations.delete_over,
            feeds.end_old,
            partial(shift_notices.delete_old, days=NOTICES_KEPT_DAYS),
            partial(counting.delete_old, days=self._settings.figures_retention_days),
            partial(escalations.delete_resolved, older_than_days=self._settings.retention_days),
        ]
        for delete in old:
            await delete_in_batches(self._db, delete)
