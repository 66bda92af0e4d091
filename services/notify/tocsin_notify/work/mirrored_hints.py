"""Hints as Taskiq delayed tasks: `notify.deliver` of a notification at its due time, `notify.release` of a message at its time,
copied from their rows into Redis. Each row has a timer; `notify.release` looks for all that is due, so messages that are due
together share one task: thousands of them would take the time of the pages beside them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_kit.db import queues
from tocsin_kit.db.pool import Database
from tocsin_timers import Chunk, DeadLetter, Timer, TimerBroker, TimerMirror

from tocsin_notify.app.delivery.hints import Hint
from tocsin_notify.domain.page import CRITICAL
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.queues import QUEUE
from tocsin_notify.work.dead_stream import DeadStream
from tocsin_notify.work.tasks import ANY, Tasks

_CHUNK: Final = 5000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FROM_THE_BEGINNING: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))
LABELS: Final = {CRITICAL: "critical"}
"""The stream's priority for each of ours; the rest is normal."""


class MirroredHints:
    """Implements `app.delivery.hints.Hints`, and is the record behind `mirror`."""

    def __init__(
        self,
        db: Database,
        broker: TimerBroker,
        tasks: Tasks,
        dead_stream: DeadStream,
        metrics: NotifyMetrics,
        nudge: Callable[[], None] | None,
        release: Callable[[], None] | None,
    ) -> None:
        """`nudge` and `release`: tell this process that a notification or a message is due. None: other processes do
        that work, and are told through Redis."""
        self._db = db
        self._broker = broker
        self._tasks = tasks
        self._release = release
        self._message_due = broker.encode(tasks.release, ANY, task_id="", labels={"priority": "normal"})
        self._dead_stream = dead_stream
        self._nudge = nudge
        self.mirror = TimerMirror(
            broker, self, available=metrics.redis_available.set, dropped=metrics.hints_dropped.inc
        )

    def arm(self, hints: Sequence[Hint]) -> None:
        """See `Hints`."""
        self.mirror.arm(
            (self._copy(hint.id, _EPOCH + timedelta(seconds=hint.delay), hint.priority) for hint in hints), _EPOCH
        )

    def disarm(self, ids: Sequence[UUID]) -> None:
        """See `Hints`."""
        self.mirror.disarm(map(str, ids))

    def now(self, ids: Sequence[UUID]) -> None:
        """See `Hints`."""
        if not ids:
            return
        if self._nudge is not None:
            self._nudge()
        else:
            self.arm([Hint(id, 0.0, CRITICAL) for id in ids])

    def messages(self, due: Sequence[tuple[UUID, float]]) -> None:
        """See `Hints`."""
        later = due if self._release is None else [each for each in due if each[1] > 0]
        if self._release is not None and len(later) < len(due):
            self._release()
        self.mirror.arm((self._message(id, _EPOCH + timedelta(seconds=delay)) for id, delay in later), _EPOCH)

    async def later(self, after: tuple[datetime, UUID] | None) -> Chunk:
        """See Record."""
        async with self._db.system() as tx:
            rows = await notifications.upcoming(tx, after or _FROM_THE_BEGINNING, _CHUNK)
        copies = (
            self._message(row.id, row.due_time) if row.message else self._copy(row.id, row.due_time, row.priority)
            for row in rows
        )
        last = (rows[-1].due_time, rows[-1].id) if len(rows) == _CHUNK else None
        return Chunk(copies, len(rows), rows[0].now if rows else _EPOCH, last)

    async def paused(self) -> bool:
        """See Record."""
        async with self._db.autocommit() as tx:
            return await queues.is_paused(tx, QUEUE)

    async def dead(self, letters: Sequence[DeadLetter]) -> None:
        """See Record."""
        await self._dead_stream.take(letters)

    def _copy(self, id: UUID, due: datetime, priority: int) -> Timer:
        labels = {"priority": LABELS.get(priority, "normal")}
        return Timer(str(id), due, self._broker.encode(self._tasks.deliver, str(id), task_id="", labels=labels))

    def _message(self, id: UUID, due: datetime) -> Timer:
        return Timer(str(id), due, self._message_due, shared=True)
