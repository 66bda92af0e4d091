"""Puts timers into Redis after their commit, in sets, without anybody waiting for it.

Whatever is lost here is found again: the sweep fires what is overdue, an empty Redis is noticed and filled, and what is due
soon is armed again now and then.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from redis.exceptions import RedisError
from tocsin.escalation.v1 import timer_pb2
from tocsin_kit.logging import get_logger
from tocsin_timers import Encoder, Timer, TimerBroker, TimerSource

from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.timers import LiveTimer
from tocsin_escalation.work.tasks import FireTask, fill_body

log = get_logger(__name__)

MOST_WAITING = 20_000


class DatabaseClock:
    """The database's clock between two readings: the last one plus the time since by this process's monotonic clock.

    Due times are the database's; Redis adds its own time to what is left of them. So hosts whose clocks differ by
    hours fire on time, and so do tests that move the database's clock.
    """

    def __init__(self) -> None:
        self._read: datetime | None = None
        self._read_at = 0.0

    def read(self, now: datetime) -> None:
        """The database said it is `now`."""
        self._read, self._read_at = now, time.monotonic()

    def now(self) -> datetime:
        """About what the database would say."""
        if self._read is None:
            return datetime.fromtimestamp(0, UTC)
        return self._read + timedelta(seconds=time.monotonic() - self._read_at)


class Armer:
    """Implements `app.effects.Arming`."""

    def __init__(self, broker: TimerBroker, task: FireTask, metrics: EscalationMetrics) -> None:
        self._urgent = Encoder(broker, task, {"priority": "critical"})
        self._normal = Encoder(broker, task)
        self._body = timer_pb2.FireTimer()
        self._clock = DatabaseClock()
        self._source = TimerSource(broker, clock=self._clock.now)
        self._metrics = metrics
        self._wanted: dict[UUID, LiveTimer | None] = {}
        self._changed = asyncio.Event()
        self._available = True

    def arm(self, timers: Sequence[LiveTimer], now: datetime) -> None:
        """See Arming. Beyond the bound they are left to the sweep: Redis is too slow or away."""
        self._clock.read(now)
        room = max(0, MOST_WAITING - len(self._wanted))
        self._wanted.update((timer.incident_id, timer) for timer in timers[:room])
        self._changed.set()

    def disarm(self, incident_ids: Sequence[UUID]) -> None:
        """See Arming. A timer that is not disarmed fires into a fence and does nothing."""
        room = max(0, MOST_WAITING - len(self._wanted))
        self._wanted.update((incident_id, None) for incident_id in incident_ids[:room])
        self._changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """The loop."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({changed, stopping}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self._changed.clear()
                wanted, self._wanted = self._wanted, {}
                await self._bring(wanted)
        finally:
            stopping.cancel()

    async def arm_now(self, timers: Sequence[LiveTimer], now: datetime) -> None:
        """Arm these and wait for it: how an empty Redis is filled. Raises RedisError."""
        self._clock.read(now)
        await self._source.arm(self._timer(timer) for timer in timers)

    async def _bring(self, wanted: dict[UUID, LiveTimer | None]) -> None:
        if not wanted:
            return  # nothing is asked of Redis, so nothing is learnt about it
        gone = [str(incident_id) for incident_id, timer in wanted.items() if timer is None]
        armed = [self._timer(timer) for timer in wanted.values() if timer is not None]
        try:
            if armed:
                await self._source.arm(armed)
            if gone:
                await self._source.delete_schedules(gone)
        except (RedisError, OSError) as error:
            self.note(False, error)
        else:
            if armed:
                self.note(True)  # a Redis that is full still lets timers be taken out

    def _timer(self, timer: LiveTimer) -> Timer:
        encode = self._urgent if timer.urgent else self._normal
        return Timer(str(timer.incident_id), timer.due_time, encode(fill_body(self._body, timer)))

    def note(self, available: bool, error: Exception | None = None) -> None:
        """Redis answered, or did not: the metric, and one log line when that is news."""
        self._metrics.redis_available.set(available)
        if available != self._available:
            self._available = available
            if available:
                log.info("redis_available")
            else:
                log.warning("redis_unavailable", error=repr(error), consequence="timers fire from PostgreSQL")
