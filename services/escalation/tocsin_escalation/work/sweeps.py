"""The loops that make Redis disposable: fire what is overdue, fill an empty Redis, notice what cannot be."""

import asyncio
from datetime import datetime
from uuid import UUID

from redis.exceptions import RedisError
from tocsin_kit.db.pool import Database
from tocsin_kit.db.requests import sweep_requests
from tocsin_kit.logging import get_logger
from tocsin_timers import TimerBroker

from tocsin_escalation.app import pauses
from tocsin_escalation.app.audit import repair_missing_timers
from tocsin_escalation.app.effects import Effects
from tocsin_escalation.app.fire_timers import sweep_overdue
from tocsin_escalation.settings import EscalationSettings
from tocsin_escalation.store import escalations, timers
from tocsin_escalation.work.armer import Armer
from tocsin_escalation.work.tasks import QUEUE

log = get_logger(__name__)

REARM_CHUNK = 5000
DELETE_CHUNK = 500


class Sweeps:
    """Escalation's rounds. Each method is one round."""

    def __init__(
        self, db: Database, effects: Effects, broker: TimerBroker, armer: Armer, settings: EscalationSettings
    ) -> None:
        self._db = db
        self._effects = effects
        self._broker = broker
        self._armer = armer
        self._settings = settings

    async def fire_overdue(self) -> None:
        """Fire what Redis did not: at most the sweep's pause late."""
        if await pauses.paused(self._db, QUEUE):
            return
        settings = self._settings
        while (
            await sweep_overdue(self._db, self._effects, settings.sweep_grace_seconds, settings.sweep_batch)
            == settings.sweep_batch
        ):
            pass

    async def watch_redis(self) -> None:
        """Is Redis there, is it still the same, does it hold what nobody could finish? An empty one is filled."""
        try:
            await self._broker.refill(self._fill_anew)
            await self._clear_dead()
            await self._broker.check()
            self._armer.note(True)
        except (RedisError, OSError) as error:
            # In a quiet hour nothing is armed: without this look nobody would see that Redis is away.
            self._armer.note(False, error)

    async def _fill_anew(self) -> None:
        await self._mirror_pause()
        await self.fill()

    async def _clear_dead(self) -> None:
        """What the stream gave up is told and removed: only a copy died, the sweep fires the row."""
        letters = await self._broker.dead_letters(DELETE_CHUNK)
        for letter in letters:
            log.error("timer_message_dead", timer=letter.timer_id, task=letter.task_name, reason=letter.reason)
        if letters:
            await self._broker.discard([letter.id for letter in letters])

    async def fill(self) -> int:
        """Arm every live timer, nearest first; how many. Armed ones are only moved to where they are.

        While one chunk goes into Redis the next one is read: the two stores work side by side.
        """
        count = 0
        chunk, now = await self._chunk(None)
        while chunk:
            last = chunk[-1]
            (following, then), _ = await asyncio.gather(
                self._chunk((last.due_time, last.incident_id)), self._armer.arm_now(chunk, now)
            )
            count += len(chunk)
            chunk, now = following, then
        if count:
            log.info("timers_armed_again", timers=count)
        return count

    async def _chunk(self, after: tuple[datetime, UUID] | None) -> tuple[list[timers.LiveTimer], datetime]:
        async with self._db.claim() as tx:
            return await timers.nearest(tx, after, REARM_CHUNK), await tx.now()

    async def rearm_soon(self) -> None:
        """Arm again what is due soon: an arming that was lost with its process costs nothing but this."""
        async with self._db.system() as tx:
            soon = await timers.due_within(tx, self._settings.rearm_ahead_seconds, REARM_CHUNK)
            now = await tx.now()
        self._armer.arm(soon, now)

    async def audit(self) -> None:
        """A running escalation without a timer would never page again: count, shout, repair."""
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
        """Retention: resolved incidents, answers kept for repeats."""
        await sweep_requests(self._db)
        while True:
            async with self._db.system() as tx:
                if await escalations.delete_resolved(tx, self._settings.retention_days, DELETE_CHUNK) < DELETE_CHUNK:
                    return

    async def _mirror_pause(self) -> None:
        if await pauses.paused(self._db, QUEUE):
            await self._broker.pause()
