"""QueueService: the figures of a service's queue, pause and resume."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.queue.v1 import queue_service_pb2 as pb
from tocsin.queue.v1 import queue_service_pb2_grpc as pb_grpc

from tocsin_kit.db import queues
from tocsin_kit.db.audit import write_entry
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.queues import RecordFigures
from tocsin_kit.errors import not_found
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.server import RpcServer

_log = get_logger(__name__)


class StreamFigures(Protocol):
    """What Redis counts (`tocsin_timers.QueueFigures`)."""

    @property
    def waiting(self) -> int: ...
    @property
    def active(self) -> int: ...
    @property
    def completed(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def dead(self) -> int: ...
    @property
    def oldest_waiting_seconds(self) -> float: ...


class Stream(Protocol):
    """The queue in Redis (`tocsin_timers.TimerMirror`). Neither method raises because Redis is away."""

    async def look(self) -> tuple[StreamFigures | None, bool]:
        """Its figures, unless it cannot be read; and whether it stores what it is given."""
        ...

    async def tell_pause(self, paused: bool) -> None:
        """Tell its workers."""
        ...


class QueueService(pb_grpc.QueueServiceServicer):
    """One queue. The pause is a row of `queue_pauses`: claims and sweeps read it, so it holds on every replica, outlives
    restarts and a flushed Redis. Redis is told so that workers leave the stream alone, too.
    """

    def __init__(
        self,
        db: Database,
        queue: str,
        figures: Callable[[Tx], Awaitable[RecordFigures]],
        stream: Stream,
        *,
        resumed: Callable[[], None] = lambda: None,
    ) -> None:
        """`figures`: reads the rows in a transaction of all tenants. `resumed`: called after a pause is over."""
        self._db = db
        self._queue = queue
        self._figures = figures
        self._stream = stream
        self._resumed = resumed

    def add_to(self, rpc: RpcServer) -> None:
        """Serve it."""
        rpc.add(self, "tocsin.queue.v1.QueueService", pb_grpc.add_QueueServiceServicer_to_server)

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Any) -> pb.ListQueuesResponse:
        """See the contract."""
        return pb.ListQueuesResponse(queues=[await self._look()])

    async def PauseQueue(self, request: pb.PauseQueueRequest, context: Any) -> pb.PauseQueueResponse:
        """See the contract."""
        await self._set_paused(request, True)
        return pb.PauseQueueResponse(queue=await self._look())

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, context: Any) -> pb.ResumeQueueResponse:
        """See the contract."""
        await self._set_paused(request, False)
        self._resumed()
        return pb.ResumeQueueResponse(queue=await self._look())

    async def _set_paused(self, request: pb.PauseQueueRequest | pb.ResumeQueueRequest, paused: bool) -> None:
        name = f"queues/{self._queue}"
        if request.name != name:
            raise not_found(ErrorReason.ERROR_REASON_QUEUE_NOT_FOUND, request.name)
        async with self._db.system() as tx:
            await queues.set_paused(tx, self._queue, paused)
            await write_entry(tx, request, pb.Queue(name=name, paused=paused))
        _log.info("queue_paused" if paused else "queue_resumed", queue=self._queue)
        await self._stream.tell_pause(paused)

    async def _look(self) -> pb.Queue:
        async with self._db.system() as tx:
            rows, paused = await self._figures(tx), await queues.is_paused(tx, self._queue)
        stream, stores = await self._stream.look()
        queue = pb.Queue(
            name=f"queues/{self._queue}",
            delayed=rows.delayed,
            overdue=rows.overdue,
            paused=paused,
            redis_available=stores,
        )
        age = rows.oldest_overdue_seconds
        if stream is not None:
            queue.waiting = stream.waiting
            age = max(age, stream.oldest_waiting_seconds)
        work = rows.work or stream
        if work is not None:
            queue.active, queue.completed = work.active, work.completed
            queue.failed, queue.dead = work.failed, work.dead
        if rows.next_due_time is not None:
            queue.next_due_time.FromDatetime(rows.next_due_time)
        queue.oldest_age.FromTimedelta(timedelta(seconds=age))
        return queue
