"""Once a second: is Redis there, is it still the same, does it know of the pause, does it hold what nobody could finish?"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from redis.exceptions import RedisError
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_timers import DeadLetter, TimerBroker

from tocsin_notify.app.hints import Hint
from tocsin_notify.domain.page import DeathReason
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store import dead_letters, notifications, queues
from tocsin_notify.store.dead_letters import NOBODY, NewDeadLetter
from tocsin_notify.work.hints import TimerHints
from tocsin_notify.work.tasks import DELIVER

_log = get_logger(__name__)

_REARM_BATCH: Final = 5000
_LETTERS: Final = 100
_FROM_THE_BEGINNING: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


class RedisWatch:
    """Any number of replicas may run it: each step is harmless when done twice."""

    def __init__(
        self,
        db: Database,
        broker: TimerBroker,
        hints: TimerHints,
        metrics: NotifyMetrics,
        read_raw: Callable[[bytes], NotificationJob],
        submit: Callable[[NotificationJob], Awaitable[object]],
    ) -> None:
        """`read_raw` raises ValueError for bytes that hold no job."""
        self._db = db
        self._broker = broker
        self._hints = hints
        self._metrics = metrics
        self._read_raw = read_raw
        self._submit = submit
        self._available: bool | None = None

    async def __call__(self) -> None:
        """One look. Raises DATABASE_UNAVAILABLE; Redis being away is a state, not an error."""
        try:
            await self._broker.refill(self._rearm)
            await self._mirror_pause()
            await self._collect_dead()
            await self._broker.check()
            self._note(True)
        except (RedisError, OSError) as error:
            self._note(False, repr(error))

    def _note(self, available: bool, error: str = "") -> None:
        if available != self._available:
            if available:
                _log.info("redis_available")
            else:
                _log.warning("redis_away", error=error, meaning="the sweep delivers from PostgreSQL, within a second")
        self._available = available
        self._metrics.redis_available.set(available)

    async def _rearm(self) -> None:
        """Redis came back without what it had: everything that is due later goes in again, the nearest first."""
        after, count = _FROM_THE_BEGINNING, 0
        while True:
            async with self._db.system() as tx:
                rows = await notifications.upcoming(tx, after, _REARM_BATCH)
            await self._hints.rearm(
                [
                    Hint(row["id"], (row["due_time"] - row["now"]) / timedelta(seconds=1), row["priority"])
                    for row in rows
                ]
            )
            count += len(rows)
            if len(rows) < _REARM_BATCH:
                break
            after = rows[-1]["due_time"], rows[-1]["id"]
        _log.info("hints_armed_anew", count=count)

    async def _mirror_pause(self) -> None:
        """Until both agree: an operator may change the record while Redis is being told what it said before."""
        while True:
            async with self._db.system() as tx:
                paused = await queues.is_paused(tx)
            if paused == await self._broker.is_paused():
                return
            await (self._broker.pause() if paused else self._broker.resume())

    async def _collect_dead(self) -> None:
        """What the stream gave up must not lie in Redis alone. A page that can be read is simply taken in."""
        letters = await self._broker.dead_letters(_LETTERS)
        if not letters:
            return
        kept: list[NewDeadLetter] = []
        for letter in letters:
            kept += await self._take(letter)
        if kept:
            async with self._db.system() as tx:
                await dead_letters.insert(tx, kept)
            self._metrics.dead_letters.labels(DeathReason.UNREADABLE_JOB).inc(len(kept))
        await self._broker.discard([letter.id for letter in letters])

    async def _take(self, letter: DeadLetter) -> Sequence[NewDeadLetter]:
        if letter.task_name == DELIVER:
            _log.error("reminder_failed", task=letter.task_id, reason=letter.reason)
            return []  # the sweep finds its row anyway
        detail = letter.reason
        try:
            await self._submit(self._read_raw(letter.data))
        except ValueError as error:
            detail = f"{letter.reason}; {error}"
        except TocsinError as error:
            if error.retry_after is not None or error.code.name in ("UNAVAILABLE", "ABORTED"):
                raise
            detail = f"{letter.reason}; {error.message}"
        else:
            _log.warning("page_taken_from_dead_stream", task=letter.task_id, reason=letter.reason)
            return []
        _log.error("job_unreadable", source=letter.id, task=letter.task_id, detail=detail)
        return [
            NewDeadLetter(
                id=new_id(),
                org_id=NOBODY,
                notification_id=None,
                page_id=None,
                user_id="",
                incident=None,
                reason=DeathReason.UNREADABLE_JOB,
                detail=detail.replace("\0", " ")[:1024],
                raw=letter.data,
                source=f"{letter.id}",
            )
        ]
