"""Escalation's timers in Redis: copies of the rows of `timers`; the sweep fires a row whose copy did not fire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.escalation.v1 import timer_pb2
from tocsin_kit.db import queues
from tocsin_kit.db.pool import Database
from tocsin_kit.logging import get_logger
from tocsin_timers import Chunk, DeadLetter, Encoder, Timer, TimerBroker, TimerMirror

from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.incidents import timers
from tocsin_escalation.store.incidents.timers import LiveTimer
from tocsin_escalation.work.tasks import QUEUE, FireTask, fill_body

_log = get_logger(__name__)

CHUNK: Final = 5000


class MirroredTimers:
    """Implements `app.incidents.effects.Arming`, and is the record behind `mirror`."""

    def __init__(self, db: Database, broker: TimerBroker, task: FireTask, metrics: EscalationMetrics) -> None:
        self._db = db
        self._urgent = Encoder(broker, task, {"priority": "critical"})
        self._normal = Encoder(broker, task)
        self._body = timer_pb2.FireTimer()
        self.mirror = TimerMirror(
            broker, self, available=metrics.redis_available.set, dropped=metrics.timers_not_armed.inc
        )

    def arm(self, timers: Sequence[LiveTimer], now: datetime) -> None:
        """See Arming."""
        self.mirror.arm(map(self._copy, timers), now)

    def disarm(self, incident_ids: Sequence[UUID]) -> None:
        """See Arming. A timer that is not removed fires with an old generation, and has no effect."""
        self.mirror.disarm(map(str, incident_ids))

    async def later(self, after: tuple[datetime, UUID] | None) -> Chunk:
        """See Record. They include overdue ones, which then fire at once."""
        async with self._db.claim() as tx:
            rows, now = await timers.nearest(tx, after, CHUNK), await tx.now()
        last = (rows[-1].due_time, rows[-1].incident_id) if len(rows) == CHUNK else None
        return Chunk(map(self._copy, rows), len(rows), now, last)

    async def paused(self) -> bool:
        """See Record."""
        async with self._db.autocommit() as tx:
            return await queues.is_paused(tx, QUEUE)

    async def dead(self, letters: Sequence[DeadLetter]) -> None:
        """See Record. Only a copy died: the sweep fires the row."""
        for letter in letters:
            _log.error("timer_message_dead", timer=letter.timer_id, task=letter.task_name, reason=letter.reason)

    def _copy(self, timer: LiveTimer) -> Timer:
        encode = self._urgent if timer.urgent else self._normal
        return Timer(str(timer.incident_id), timer.due_time, encode(fill_body(self._body, timer)))
