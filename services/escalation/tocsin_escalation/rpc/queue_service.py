"""QueueService: the figures of escalation's queue, pause and resume."""

from datetime import timedelta
from typing import Any

import grpc
from redis.exceptions import RedisError
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.queue.v1 import queue_service_pb2 as pb
from tocsin.queue.v1 import queue_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import not_found
from tocsin_kit.logging import get_logger
from tocsin_timers import TimerBroker, TimerMirror

from tocsin_escalation.app import pauses
from tocsin_escalation.rpc.mapping import duration, timestamp
from tocsin_escalation.store import timers
from tocsin_escalation.work.tasks import QUEUE

Context = grpc.aio.ServicerContext[Any, Any]
log = get_logger(__name__)


class QueueService(pb_grpc.QueueServiceServicer):
    """One queue: `queues/escalation`, the timers."""

    def __init__(self, db: Database, broker: TimerBroker, mirror: TimerMirror) -> None:
        self._db = db
        self._broker = broker
        self._mirror = mirror

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Context) -> pb.ListQueuesResponse:
        return pb.ListQueuesResponse(queues=[await self._queue()])

    async def PauseQueue(self, request: pb.PauseQueueRequest, context: Context) -> pb.PauseQueueResponse:
        await self._set(request.name, True)
        return pb.PauseQueueResponse(queue=await self._queue())

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, context: Context) -> pb.ResumeQueueResponse:
        await self._set(request.name, False)
        return pb.ResumeQueueResponse(queue=await self._queue())

    async def _set(self, name: str, paused: bool) -> None:
        if name != f"queues/{QUEUE}":
            raise not_found(reasons.ERROR_REASON_QUEUE_NOT_FOUND, name)
        await pauses.set_paused(self._db, QUEUE, paused)
        await self._mirror.tell_pause(paused)

    async def _queue(self) -> pb.Queue:
        async with self._db.system() as tx:
            record = await timers.figures(tx)
        queue = pb.Queue(
            name=f"queues/{QUEUE}",
            delayed=record.delayed,
            overdue=record.overdue,
            oldest_age=duration(timedelta(seconds=record.oldest_overdue_seconds)),
            next_due_time=timestamp(record.next_due_time),
            paused=await pauses.paused(self._db, QUEUE),
        )
        try:
            stream = await self._broker.figures()
            queue.waiting, queue.active = stream.waiting, stream.active
            queue.failed, queue.completed, queue.dead = stream.failed, stream.completed, stream.dead
            await self._broker.check()
            queue.redis_available = True
        except (RedisError, OSError) as error:
            log.debug("redis_figures_missing", error=repr(error))
        return queue
