"""QueueService: the figures and options of a service's queue, pause and resume, and its tasks."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.queue.v1 import queue_service_pb2 as pb
from tocsin.queue.v1 import queue_service_pb2_grpc as pb_grpc
from tocsin.queue.v1 import task_pb2 as task_pb
from tocsin.queue.v1.queue_options_pb2 import QueueOptions

from tocsin_kit.db import queues
from tocsin_kit.db.audit import write_entry
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop
from tocsin_kit.rpc import task_mapping as mapping
from tocsin_kit.rpc.call import current_call, note_before
from tocsin_kit.rpc.listing import listed
from tocsin_kit.rpc.masks import etag, require_etag
from tocsin_kit.rpc.paging import PageTokens, cursor_invalid, page_size
from tocsin_kit.rpc.server import RpcServer
from tocsin_kit.tasks import options
from tocsin_kit.tasks.board import Board
from tocsin_kit.tasks.journal import EVERY, spread
from tocsin_kit.tasks.queue import Queue
from tocsin_kit.tasks.task import Task
from tocsin_kit.tasks.watch import Place, Watch

R = TypeVar("R", bound=Message)

_log = get_logger(__name__)
_MINUTES: Final = 15
_MOST_LOOKS: Final = int(600 / EVERY)
"""Of a watch: then it is opened again, with a credential that still counts."""


class QueueService(pb_grpc.QueueServiceServicer):
    """One queue. The pause is a row of `queue_pauses`: claims and sweeps read it, so it holds on every replica, outlives
    restarts and a flushed Redis. Redis is told so that workers leave the stream alone, too.
    """

    def __init__(self, db: Database, queue: Queue, pages: PageTokens, stop: asyncio.Event) -> None:
        """`stop`: ends watches."""
        self._db = db
        self._queue = queue.name
        self._figures = queue.figures
        self._stream = queue.stream
        self._board = Board(queue.name, queue.kinds)
        self._pages = pages
        self._journal = queue.journal
        self._live = queue.live
        self._stop = stop
        self._resumed = queue.resumed

    def add_to(self, rpc: RpcServer) -> None:
        """Serve it."""
        self._revocations = rpc.credentials.revocations
        rpc.add(self)

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Any) -> pb.ListQueuesResponse:
        """See the contract."""
        return pb.ListQueuesResponse(queues=[await self._look()])

    async def GetQueue(self, request: pb.GetQueueRequest, context: Any) -> pb.GetQueueResponse:
        """See the contract."""
        self._require(request.name)
        return pb.GetQueueResponse(queue=await self._look())

    async def UpdateQueue(self, request: pb.UpdateQueueRequest, context: Any) -> pb.UpdateQueueResponse:
        """See the contract."""
        self._require(request.queue.name)

        async def work(tx: Tx) -> pb.UpdateQueueResponse:
            async def change() -> pb.UpdateQueueResponse:
                row = await queues.options(tx, self._queue, lock=True)
                require_etag(request.queue.etag, row.version, field="queue.etag")
                before = options.read(row.options)
                note_before(self._with_options(pb.Queue(), before, row.version))
                after = options.changed(self._live.defaults, before, request.queue, request.update_mask)
                version = await queues.set_options(tx, self._queue, after.SerializeToString())
                tx.after_commit(lambda: self._live.take(after, version))
                return pb.UpdateQueueResponse(queue=self._with_options(pb.Queue(), after, version))

            return await once(tx, "UpdateQueue", request, pb.UpdateQueueResponse, change)

        answer = await self._act(request.queue.name, "queue_updated", work)
        queue = await self._look()
        queue.MergeFrom(answer.queue)
        return pb.UpdateQueueResponse(queue=queue)

    async def PauseQueue(self, request: pb.PauseQueueRequest, context: Any) -> pb.PauseQueueResponse:
        """See the contract."""
        await self._set_paused(request, True)
        return pb.PauseQueueResponse(queue=await self._look())

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, context: Any) -> pb.ResumeQueueResponse:
        """See the contract."""
        await self._set_paused(request, False)
        self._resumed()
        return pb.ResumeQueueResponse(queue=await self._look())

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        """See the contract."""
        self._require(request.queue)
        if request.state in mapping.KEPT_STATES:
            return await self._newest(request, self._pages.decode(request), page_size(request.page_size))
        state = mapping.STATES[request.state]

        async def read(after: Any, limit: int) -> Sequence[Task]:
            async with self._db.system() as tx:
                return await self._board.page(tx, state, request.org_id or None, after, limit)

        def encode(task: Task) -> task_pb.Task:
            return mapping.task_to(self._queue, task)

        tasks, token = await listed(self._pages, request, None, read, encode, lambda task: (task.time, task.id))
        return pb.ListTasksResponse(tasks=tasks, next_page_token=token)

    async def _newest(self, request: pb.ListTasksRequest, position: Any, size: int) -> pb.ListTasksResponse:
        failed = request.state == task_pb.TASK_STATE_FAILED
        kept, partial = await self._journal.newest(failed=failed, before=str(position[0]) if position else "")
        found = [(id, change.task) for id, change in kept if request.org_id in ("", change.task.org_id)]
        shown = found[:size]
        return pb.ListTasksResponse(
            tasks=[task for _, task in shown],
            next_page_token=self._pages.encode(request, (shown[-1][0],)) if len(found) > size else "",
            partial=partial,
        )

    async def WatchQueue(
        self, request: pb.WatchQueueRequest, context: Any
    ) -> AsyncGenerator[pb.WatchQueueResponse, None]:
        """See the contract."""
        self._require(request.name)
        principal, binding = current_call().principal, f"{current_call().org_id}\0WatchQueue {request.name}".encode()
        watch = Watch(self._journal)
        missed = await watch.begin(self._place(request.cursor, binding))
        yield pb.WatchQueueResponse(cursor=self._cursor(watch.place, binding), missed=missed)
        for _ in range(_MOST_LOOKS):
            if await wait_or_stop(self._stop, EVERY):
                raise TocsinError(
                    ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
                    "the server is going away; open the watch again",
                    metadata={"service": self._queue},
                )
            self._revocations.check(principal)
            news = await watch.more()
            if news.changes or news.missed:
                yield pb.WatchQueueResponse(
                    changes=news.changes,
                    partial=news.partial,
                    cursor=self._cursor(watch.place, binding),
                    missed=news.missed,
                )

    def _cursor(self, place: Place | None, binding: bytes) -> str:
        return "" if place is None else self._pages.seal((place.epoch, place.time, *place.last), binding)

    def _place(self, cursor: str, binding: bytes) -> Place | None:
        if not cursor:
            return None
        match self._pages.unseal(cursor, binding):
            case (str(epoch), int(time), str(one), str(two), str(three)):
                return Place(epoch, time, (one, two, three))
        raise cursor_invalid()

    async def GetQueueActivity(self, request: pb.GetQueueActivityRequest, context: Any) -> pb.GetQueueActivityResponse:
        """See the contract."""
        self._require(request.name)
        async with self._db.system() as tx:
            now = await tx.now()
        minutes, partial = await self._journal.minutes(now, request.minutes or _MINUTES)
        return pb.GetQueueActivityResponse(
            minutes=map(mapping.minute_to, minutes),
            lateness=mapping.spread_to(*spread(minutes, "l")),
            duration=mapping.spread_to(*spread(minutes, "d")),
            partial=partial,
        )

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        """See the contract."""
        key = self._key(request.name)
        try:
            async with self._db.system() as tx:
                task, history, losses = await self._board.look(tx, key)
        except TocsinError as error:
            if error.reason is not ErrorReason.ERROR_REASON_TASK_NOT_FOUND:
                raise
            kept = await self._journal.last_of(request.name)
            if kept is None:
                raise
            async with self._db.system() as tx:
                history = await self._board.history(tx, kept.org_id, key)
            return pb.GetTaskResponse(task=kept, history=mapping.events_to(history))
        return pb.GetTaskResponse(
            task=mapping.task_to(self._queue, task),
            history=mapping.events_to(history),
            losses=mapping.losses_to(losses),
        )

    async def PromoteTask(self, request: pb.PromoteTaskRequest, context: Any) -> pb.PromoteTaskResponse:
        """See the contract."""
        key = self._key(request.name)

        async def work(tx: Tx) -> pb.PromoteTaskResponse:
            async def promote() -> pb.PromoteTaskResponse:
                task, losses = await self._board.promote(tx, key, current_call().subject, force=request.force)
                return pb.PromoteTaskResponse(
                    task=mapping.task_to(self._queue, task),
                    queue_paused=await queues.is_paused(tx, self._queue),
                    losses=mapping.losses_to(losses),
                )

            return await once(tx, "PromoteTask", request, pb.PromoteTaskResponse, promote)

        return await self._act(request.name, "task_promoted", work)

    async def RetryTask(self, request: pb.RetryTaskRequest, context: Any) -> pb.RetryTaskResponse:
        """See the contract."""
        key = self._key(request.name)

        async def work(tx: Tx) -> pb.RetryTaskResponse:
            async def retry() -> pb.RetryTaskResponse:
                task = await self._board.retry(tx, key, current_call().subject)
                return pb.RetryTaskResponse(
                    task=mapping.task_to(self._queue, task), queue_paused=await queues.is_paused(tx, self._queue)
                )

            return await once(tx, "RetryTask", request, pb.RetryTaskResponse, retry)

        return await self._act(request.name, "task_retried", work)

    async def RemoveTask(self, request: pb.RemoveTaskRequest, context: Any) -> pb.RemoveTaskResponse:
        """See the contract."""
        key = self._key(request.name)

        async def work(tx: Tx) -> pb.RemoveTaskResponse:
            async def remove() -> pb.RemoveTaskResponse:
                task, losses = await self._board.remove(tx, key, current_call().subject, force=request.force)
                return pb.RemoveTaskResponse(task=mapping.task_to(self._queue, task), losses=mapping.losses_to(losses))

            return await once(tx, "RemoveTask", request, pb.RemoveTaskResponse, remove)

        return await self._act(request.name, "task_removed", work)

    async def DrainQueue(self, request: pb.DrainQueueRequest, context: Any) -> pb.DrainQueueResponse:
        """See the contract."""
        self._require(request.name)

        async def drain(tx: Tx) -> pb.DrainQueueResponse:
            drained = await self._board.drain(
                tx,
                current_call().subject,
                org_id=request.org_id or None,
                delayed=request.delayed,
                force=request.force,
                dry_run=request.dry_run,
            )
            return pb.DrainQueueResponse(
                removed=mapping.counts_to(drained.removed),
                kept=mapping.counts_to(drained.kept),
                losses=mapping.losses_to(drained.losses),
                more=drained.more,
            )

        async def work(tx: Tx) -> pb.DrainQueueResponse:
            return await once(tx, "DrainQueue", request, pb.DrainQueueResponse, lambda: drain(tx))

        if request.dry_run:
            return await self._db.run(None, drain)
        return await self._act(request.name, "queue_drained", work)

    async def _act(self, name: str, event: str, work: Callable[[Tx], Awaitable[R]]) -> R:
        answer = await self._db.run(None, work)
        _log.warning(event, name=name, subject=current_call().subject)
        return answer

    def _require(self, name: str) -> None:
        if name != f"queues/{self._queue}":
            raise not_found(ErrorReason.ERROR_REASON_QUEUE_NOT_FOUND, name)

    def _key(self, name: str) -> str:
        queue, _, key = name.partition("/tasks/")
        self._require(queue)
        return key

    async def _set_paused(self, request: pb.PauseQueueRequest | pb.ResumeQueueRequest, paused: bool) -> None:
        name = f"queues/{self._queue}"
        self._require(request.name)
        async with self._db.system() as tx:
            await queues.set_paused(tx, self._queue, paused)
            await write_entry(tx, request, pb.Queue(name=name, paused=paused))
        _log.info("queue_paused" if paused else "queue_resumed", queue=self._queue)
        await self._stream.tell_pause(paused)

    async def _look(self) -> pb.Queue:
        async with self._db.system() as tx:
            rows, paused = await self._figures(tx), await queues.is_paused(tx, self._queue)
            chosen = await queues.options(tx, self._queue)
        stream, stores = await self._stream.look()
        queue = pb.Queue(
            name=f"queues/{self._queue}",
            delayed=rows.delayed,
            overdue=rows.overdue,
            paused=paused,
            redis_available=stores,
        )
        self._with_options(queue, options.read(chosen.options), chosen.version)
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

    def _with_options(self, queue: pb.Queue, chosen: QueueOptions, version: int) -> pb.Queue:
        queue.name = f"queues/{self._queue}"
        queue.options.CopyFrom(options.merged(self._live.defaults, chosen))
        queue.default_options.CopyFrom(self._live.defaults)
        queue.etag = etag(version)
        return queue
