"""Hints as Taskiq delayed tasks: `notify.deliver` of a notification at its due time."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final
from uuid import UUID

from redis.exceptions import RedisError
from tocsin_kit.logging import get_logger
from tocsin_timers import Timer, TimerBroker, TimersError, TimerSource

from tocsin_notify.app.hints import Hint
from tocsin_notify.domain.page import CRITICAL
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.work.tasks import DeliverTask

_log = get_logger(__name__)

_MOST_WAITING: Final = 20_000
_MOST_PER_CALL: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LABELS: Final = {CRITICAL: "critical"}
"""The stream's priority for each of ours; the rest is normal."""


def timer_source(broker: TimerBroker) -> TimerSource:
    """A source whose now stands still: a due time is then a plain delay, which Redis adds to its own clock.

    Delays come from the database's clock; no host's clock has a part in it.
    """
    return TimerSource(broker, clock=lambda: _EPOCH)


class TimerHints:
    """Keeps what is to be armed for the moment, and sends it in sets. Full or without Redis it drops: rows are found."""

    def __init__(
        self, broker: TimerBroker, deliver: DeliverTask, metrics: NotifyMetrics, nudge: Callable[[], None] | None
    ) -> None:
        """`nudge`: tells the deliverer that something is due; None: it lives in other processes, reached through Redis."""
        self._broker = broker
        self._source = timer_source(broker)
        self._deliver = deliver
        self._metrics = metrics
        self._nudge = nudge
        self._arming: dict[UUID, tuple[float, int]] = {}
        self._disarming: list[UUID] = []
        self._something = asyncio.Event()

    def arm(self, hints: Sequence[Hint]) -> None:
        """See `Hints`."""
        now = monotonic()
        for hint in hints:
            if len(self._arming) >= _MOST_WAITING:
                self._metrics.hints_dropped.inc()
            else:
                self._arming[hint.id] = (now + hint.delay, hint.priority)
        if hints:
            self._something.set()

    def disarm(self, ids: Sequence[UUID]) -> None:
        """See `Hints`."""
        self._disarming.extend(ids[: max(0, _MOST_WAITING - len(self._disarming))])
        if ids:
            self._something.set()

    def now(self, ids: Sequence[UUID]) -> None:
        """See `Hints`."""
        if not ids:
            return
        if self._nudge is not None:
            self._nudge()
        else:
            self.arm([Hint(id, 0.0, CRITICAL) for id in ids])

    async def run(self, stop: asyncio.Event) -> None:
        """The loop that sends."""
        while not stop.is_set():
            if not self._something.is_set():
                waiters = [asyncio.ensure_future(self._something.wait()), asyncio.ensure_future(stop.wait())]
                try:
                    await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for waiter in waiters:
                        waiter.cancel()
            self._something.clear()
            await self._send()

    async def rearm(self, hints: Sequence[Hint]) -> None:
        """Arm at once, into a Redis that lost what it had. Raises RedisError."""
        now = monotonic()
        await self._source.arm([self._timer(hint.id, now + hint.delay, hint.priority, now) for hint in hints])

    async def _send(self) -> None:
        arming, self._arming = self._arming, {}
        disarming, self._disarming = self._disarming, []
        now = monotonic()
        timers = [self._timer(id, due, priority, now) for id, (due, priority) in arming.items()]
        try:
            for start in range(0, len(timers), _MOST_PER_CALL):
                await self._source.arm(timers[start : start + _MOST_PER_CALL])
            if disarming:
                await self._source.delete_schedules([str(id) for id in disarming])
        except (RedisError, OSError, TimersError) as error:
            self._metrics.hints_dropped.inc(len(timers))
            _log.debug("hints_dropped", count=len(timers), error=repr(error))

    def _timer(self, id: UUID, due: float, priority: int, now: float) -> Timer:
        message = self._broker.encode(
            self._deliver, str(id), task_id="", labels={"priority": LABELS.get(priority, "normal")}
        )
        return Timer(str(id), _EPOCH + timedelta(seconds=max(0.0, due - now)), message)
