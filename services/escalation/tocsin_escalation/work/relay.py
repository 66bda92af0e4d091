"""Hands pages and cancellations to notify: quickly through Redis, surely by RPC."""

from collections.abc import Awaitable, Callable, Sequence

from redis.exceptions import RedisError
from taskiq.kicker import AsyncKicker
from tocsin.notify.v1 import internal_service_pb2, notification_pb2
from tocsin_kit.db.outbox import Done, OutboxRow, Outcome, Retry
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_timers import TimerBroker, TimersError

from tocsin_escalation.clients.notify import Notify
from tocsin_escalation.work.tasks import NOTIFY_TASK

log = get_logger(__name__)

KINDS = ("page", "page_check", "cancel")
URGENT = (1, 2)
HandOver = Callable[[Sequence[OutboxRow]], Awaitable[None]]


class Delivery:
    """Delivers outbox rows.

    A page goes into notify's stream (kind `page`), and a second later by RPC as well (kind `page_check`): a Redis that
    was flushed between the two has lost nothing, and notify takes a page it knows as no page at all.
    """

    def __init__(self, notify: Notify, queue: TimerBroker) -> None:
        self._notify = notify
        self._queue = queue
        self._kicker: AsyncKicker[..., None] = AsyncKicker(NOTIFY_TASK, queue, {})

    async def deliver(self, rows: Sequence[OutboxRow]) -> Sequence[Outcome]:
        """One answer per row, in order. A kind that fails is tried again without holding up the others."""
        answers: dict[int, Outcome] = {}
        for kind, hand_over in (("cancel", self._cancel), ("page", self._page), ("page_check", self._submit)):
            some = [row for row in rows if row.kind == kind]
            if some:
                answers.update(
                    (row.id, answer) for row, answer in zip(some, await self._try(hand_over, some), strict=True)
                )
        return [answers[row.id] for row in rows]

    async def _try(self, hand_over: HandOver, rows: Sequence[OutboxRow]) -> Sequence[Outcome]:
        try:
            await hand_over(rows)
        except TocsinError as error:
            return [Retry(f"{error.reason_name}: {error.message}")] * len(rows)
        return [Done()] * len(rows)

    async def _page(self, rows: Sequence[OutboxRow]) -> None:
        jobs = [notification_pb2.NotificationJob.FromString(row.payload) for row in rows]
        try:
            await self._queue.kick_many(
                [
                    self._queue.encode(
                        self._kicker.with_labels(priority="critical" if job.severity in URGENT else "normal"),
                        job,
                        task_id=job.page,
                    )
                    for job in jobs
                ]
            )
        except (RedisError, OSError, TimersError) as error:
            log.info("pages_by_rpc", pages=len(jobs), reason=repr(error))
            await self._notify.submit(jobs)

    async def _submit(self, rows: Sequence[OutboxRow]) -> None:
        await self._notify.submit([notification_pb2.NotificationJob.FromString(row.payload) for row in rows])

    async def _cancel(self, rows: Sequence[OutboxRow]) -> None:
        await self._notify.cancel([internal_service_pb2.Cancellation.FromString(row.payload) for row in rows])
