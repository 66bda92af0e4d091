"""QueueService: the figures of `queues/notify`, pause and resume."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.queue.v1 import queue_service_pb2 as pb
from tocsin.queue.v1 import queue_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import not_found
from tocsin_kit.logging import get_logger
from tocsin_timers import TimerBroker, TimerMirror

from tocsin_notify.rpc.mapping import timestamp
from tocsin_notify.store import queues
from tocsin_notify.store.queues import QUEUE

_log = get_logger(__name__)


class QueueService(pb_grpc.QueueServiceServicer):
    """Failed and completed count provider calls; waiting counts jobs in the stream; the rest counts notifications.

    The pause is a row: claims read it, so it holds on every replica from the next claim on, outlives restarts and a
    flushed Redis, and stops the sweep as well. Redis is told so that workers leave the stream alone, too.
    """

    def __init__(self, db: Database, broker: TimerBroker, mirror: TimerMirror, nudge: Callable[[], None]) -> None:
        """`nudge`: tells the deliverer to look now."""
        self._db = db
        self._broker = broker
        self._mirror = mirror
        self._nudge = nudge

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Any) -> pb.ListQueuesResponse:
        """See the contract."""
        return pb.ListQueuesResponse(queues=[await self._queue()])

    async def PauseQueue(self, request: pb.PauseQueueRequest, context: Any) -> pb.PauseQueueResponse:
        """See the contract."""
        await self._set_paused(request.name, True)
        return pb.PauseQueueResponse(queue=await self._queue())

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, context: Any) -> pb.ResumeQueueResponse:
        """See the contract."""
        await self._set_paused(request.name, False)
        self._nudge()
        return pb.ResumeQueueResponse(queue=await self._queue())

    async def _set_paused(self, name: str, paused: bool) -> None:
        if name != f"queues/{QUEUE}":
            raise not_found(ErrorReason.ERROR_REASON_QUEUE_NOT_FOUND, name)
        async with self._db.system() as tx:
            await queues.set_paused(tx, paused)
        _log.info("queue_paused" if paused else "queue_resumed", queue=QUEUE)
        await self._mirror.tell_pause(paused)

    async def _queue(self) -> pb.Queue:
        async with self._db.system() as tx:
            record = await queues.figures(tx)
        age = record.oldest_overdue_seconds or 0.0
        queue = pb.Queue(
            name=f"queues/{QUEUE}",
            active=record.sending,
            delayed=record.delayed,
            overdue=record.overdue,
            failed=record.failed,
            completed=record.completed,
            dead=record.dead,
            next_due_time=timestamp(record.next_due_time),
            paused=record.paused,
        )
        try:
            stream = await self._broker.figures()
            queue.waiting = stream.waiting
            age = max(age, stream.oldest_waiting_seconds)
            await self._broker.check()
            queue.redis_available = True
        except (RedisError, OSError) as error:
            _log.debug("redis_figures_missing", error=repr(error))
        queue.oldest_age.FromTimedelta(timedelta(seconds=age))
        return queue
