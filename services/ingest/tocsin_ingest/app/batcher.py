"""Group commit: alerts that arrive while one batch commits make the next one.

One batch of a tenant is under way at a time, tenants take turns, and a few run side by side: a tenant's flood makes its
own batches bigger and nobody else's wait longer.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import SendAlertResponse
from tocsin_kit.errors import TocsinError

from tocsin_ingest.domain.message import Message

Answer = SendAlertResponse | Exception


@dataclass(slots=True)
class Entry:
    """One alert on its way into the database. `request_id` is empty when the caller gave none."""

    message: Message
    request_id: str = ""
    body_hash: bytes = b""
    answer: "asyncio.Future[SendAlertResponse]" = field(init=False)


Commit = Callable[[str, Sequence[Entry]], Awaitable[Sequence[Answer]]]
"""Commits entries of one tenant together and answers each."""

_RETRY_AFTER: Final = 1.0


class Batcher:
    """Collects entries and commits them in batches of at most `batch_size`, for `lanes` tenants at once.

    At most `capacity` entries wait in all, and no more than half of that for one tenant.
    """

    def __init__(self, commit: Commit, *, batch_size: int = 500, lanes: int = 4, capacity: int = 20_000) -> None:
        self._commit = commit
        self._batch_size = batch_size
        self._lanes = lanes
        self._capacity = capacity
        self._queues: dict[str, deque[Entry]] = {}
        self._turn: deque[str] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._pump_due = False

    @property
    def waiting(self) -> int:
        """Entries that no batch has taken yet."""
        return self._waiting

    def submit(self, org_id: str, entry: Entry) -> "asyncio.Future[SendAlertResponse]":
        """The answer, once the entry's batch is committed; or the error of the entry alone. Raises OVERLOADED."""
        queue = self._queues.get(org_id)
        if self._waiting >= self._capacity or (queue is not None and len(queue) >= self._capacity // 2):
            raise TocsinError(
                ErrorReason.ERROR_REASON_OVERLOADED,
                "more alerts wait to be committed than may wait; send it again a little later",
                retry_after=_RETRY_AFTER,
            )
        loop = asyncio.get_running_loop()
        entry.answer = loop.create_future()
        if queue is None:
            queue = self._queues[org_id] = deque()
            self._turn.append(org_id)
        queue.append(entry)
        self._waiting += 1
        if not self._pump_due:
            # At the end of this turn of the loop: what arrived with it goes with it.
            self._pump_due = True
            loop.call_soon(self._pump)
        return entry.answer

    async def drain(self) -> None:
        """Returns when everything submitted is answered."""
        while self._running or self._waiting:
            if self._running:
                await asyncio.wait(self._running)
            else:
                self._pump()

    def _pump(self) -> None:
        self._pump_due = False
        while self._turn and len(self._running) < self._lanes:
            # A context of its own: a batch is no part of the call that happened to come first, nor are its log lines.
            task = asyncio.get_running_loop().create_task(
                self._run(self._turn.popleft()), context=contextvars.Context()
            )
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._pump()

    async def _run(self, org_id: str) -> None:
        queue = self._queues[org_id]
        taken = [queue.popleft() for _ in range(min(len(queue), self._batch_size))]
        self._waiting -= len(taken)
        batch = [entry for entry in taken if not entry.answer.cancelled()]
        try:
            if batch:
                await self._commit_batch(org_id, batch)
        finally:
            if queue:
                self._turn.append(org_id)
            else:
                del self._queues[org_id]

    async def _commit_batch(self, org_id: str, batch: Sequence[Entry]) -> None:
        try:
            answers = await self._commit(org_id, batch)
        except Exception as error:
            # The call's own pipeline reports it; here nobody would.
            for entry in batch:
                _fail(entry, error)
            return
        for entry, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                _fail(entry, answer)
            elif not entry.answer.done():
                entry.answer.set_result(answer)


def _fail(entry: Entry, error: Exception) -> None:
    if not entry.answer.done():
        entry.answer.set_exception(error)
