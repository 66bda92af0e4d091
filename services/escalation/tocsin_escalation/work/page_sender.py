"""Sends pages to notify the fast way: from memory into notify's stream, right after their commit.

Several pages of one tenant are one task: in a storm a task for each would cost notify as much as its provider call.

Each page is an outbox row as well, due a second later, which the relay sends by RPC. So nothing here has to succeed: a process
that dies, a Redis that is flushed before notify read it, or an overflow costs that second, and no page. Notify recognises a page
by its id and drops the second copy.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from redis.exceptions import RedisError
from taskiq.kicker import AsyncKicker
from tocsin.notify.v1.internal_service_pb2 import SubmitNotificationsRequest
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_for_any
from tocsin_timers import Encoded, Encoder, TimerBroker, TimersError

from tocsin_escalation.clients.notify import Notify
from tocsin_escalation.work.tasks import NOTIFY_SET_TASK, NOTIFY_TASK

_log = get_logger(__name__)

MOST_WAITING: Final = 10_000
MOST_AT_ONCE: Final = 500
MOST_IN_SET: Final = 50
"""Pages of one task: while they are stored they use one place of notify's worker."""
_SET_BYTES: Final = 256 << 10
"""Of one task, unless a single page is larger."""
PATIENCE: Final = 0.25
"""Seconds after which pages are sent by RPC as well, although Redis has not failed: a hanging Redis needs a second to time out."""
URGENT: Final = (1, 2)
_URGENT: Final = "critical"
_NORMAL: Final = "normal"


class PageSender:
    """Implements `app.incidents.effects.Paging`."""

    def __init__(self, queue: TimerBroker, notify: Notify) -> None:
        self._queue = queue
        self._notify = notify
        self._one, self._set = (
            {
                priority: Encoder(queue, AsyncKicker[..., None](task, queue, {}), {"priority": priority})
                for priority in (_URGENT, _NORMAL)
            }
            for task in (NOTIFY_TASK, NOTIFY_SET_TASK)
        )
        self._waiting: list[NotificationJob] = []
        self._arrived = asyncio.Event()
        self._kicks: set[asyncio.Task[Exception | None]] = set()

    def page(self, jobs: Sequence[NotificationJob]) -> None:
        """See Paging. Pages beyond the limit are left to their rows."""
        self._waiting += jobs[: max(0, MOST_WAITING - len(self._waiting))]
        self._arrived.set()

    async def run(self, stop: asyncio.Event) -> None:
        """The loop."""
        while not stop.is_set():
            await wait_for_any(self._arrived, stop)
            self._arrived.clear()
            while self._waiting:
                jobs, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                await self._hand_over(jobs)

    async def _hand_over(self, jobs: Sequence[NotificationJob]) -> None:
        kick = asyncio.create_task(self._kick(jobs))
        # It continues after that, so that its time-out tells the whole process that Redis hangs.
        self._kicks.add(kick)
        kick.add_done_callback(self._kicks.discard)
        await asyncio.wait({kick}, timeout=PATIENCE)
        error = kick.result() if kick.done() else TimeoutError(f"no answer within {PATIENCE} s")
        if error is not None:
            await self._submit(jobs, error)

    async def _kick(self, jobs: Sequence[NotificationJob]) -> Exception | None:
        try:
            await self._queue.kick_many(self._messages(jobs))
        except (RedisError, OSError, TimersError) as error:
            return error
        return None

    def _messages(self, jobs: Sequence[NotificationJob]) -> Iterator[Encoded]:
        for given in sets_of(jobs):
            lane, name = priority(given[0]), given[0].page
            if len(given) == 1:
                yield self._one[lane](given[0], name)
            else:
                yield self._set[lane](SubmitNotificationsRequest(jobs=given), name)

    async def _submit(self, jobs: Sequence[NotificationJob], why: Exception) -> None:
        try:
            await self._notify.submit(jobs)
        except TocsinError as error:
            _log.warning("pages_left_to_outbox", pages=len(jobs), redis=repr(why), notify=error.message)
        else:
            _log.info("pages_by_rpc", pages=len(jobs), redis=repr(why))


def sets_of(jobs: Sequence[NotificationJob]) -> Iterator[list[NotificationJob]]:
    """Pages that are sent together: of one tenant and one stream, in their order, limited by number and bytes."""
    of: dict[tuple[str, str], list[NotificationJob]] = {}
    for job in jobs:
        of.setdefault((job.org_id, priority(job)), []).append(job)
    for group in of.values():
        given, total = list[NotificationJob](), 0
        for job in group:
            size = job.ByteSize()
            if given and (len(given) == MOST_IN_SET or total + size > _SET_BYTES):
                yield given
                given, total = [], 0
            given.append(job)
            total += size
        yield given


def priority(job: NotificationJob) -> str:
    """The notify stream for a page."""
    return _URGENT if job.severity in URGENT else _NORMAL
