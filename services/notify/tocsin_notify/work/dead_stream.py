"""Messages that notify's stream gave up: a page that can be read is accepted, all others are kept as dead letters."""

from collections.abc import Sequence

from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_timers import DeadLetter, TimerBroker

from tocsin_notify.domain.page import DeathReason
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import dead_letters
from tocsin_notify.store.delivery.dead_letters import NOBODY, NewDeadLetter
from tocsin_notify.work.tasks import DELIVER, arrivals_of, jobs_reader

_log = get_logger(__name__)


class DeadStream:
    """Several replicas may take the same letters: each step can be repeated without harm."""

    def __init__(
        self,
        db: Database,
        metrics: NotifyMetrics,
        broker: TimerBroker,
    ) -> None:
        self._db = db
        self._metrics = metrics
        self._broker = broker
        self._read_raw = jobs_reader(broker)

    async def take(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once none of them is in Redis only. Raises TocsinError while the database is away."""
        kept: list[NewDeadLetter] = []
        for letter in letters:
            kept += await self._take(letter)
        if kept:
            async with self._db.system() as tx:
                await dead_letters.insert(tx, kept)
            self._metrics.dead_letters.labels(DeathReason.UNREADABLE_JOB).inc(len(kept))

    async def _take(self, letter: DeadLetter) -> Sequence[NewDeadLetter]:
        if letter.task_name == DELIVER:
            _log.error("reminder_failed", task=letter.task_id, reason=letter.reason)
            return []  # the sweep finds its row later
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

    async def _submit(self, jobs: Sequence[NotificationJob]) -> None:
        arrivals = arrivals_of(self._broker)
        if len(jobs) == 1:
            await arrivals.submit(jobs[0])
        else:
            await arrivals.submit_all(jobs)
