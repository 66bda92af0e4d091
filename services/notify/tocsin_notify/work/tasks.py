"""Tasks that arrive through Redis: pages from escalation, and this service's own reminders."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import grpc
from taskiq.decor import AsyncTaskiqDecoratedTask
from taskiq.exceptions import TaskRejectedError
from tocsin.notify.v1.internal_service_pb2 import SubmitNotificationsRequest
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.errors import TocsinError
from tocsin_kit.loops import retry_until
from tocsin_timers import TimerBroker

from tocsin_notify.work.arrivals import Arrivals

SUBMIT: Final = "notify.submit"
"""The task escalation sends, with a NotificationJob as its only argument."""
SUBMIT_SET: Final = "notify.submit_set"
"""The same for several jobs, with a SubmitNotificationsRequest."""
DELIVER: Final = "notify.deliver"
RELEASE: Final = "notify.release"
ANY: Final = ""
"""The argument of RELEASE, by which the version before told messages apart; its workers want one."""

_PASSING: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED})
"""A repeat can succeed: the database is away, or overloaded."""


class Tasks(NamedTuple):
    """The tasks that remind this service of its own rows."""

    deliver: AsyncTaskiqDecoratedTask[Any, Any]
    release: AsyncTaskiqDecoratedTask[Any, Any]


def take_with(broker: TimerBroker, arrivals: Arrivals) -> None:
    """Let this object receive what the tasks carry."""
    broker.state.arrivals = arrivals


def arrivals_of(broker: TimerBroker) -> Arrivals:
    """The object that was given to `take_with`."""
    arrivals: Arrivals = broker.state.arrivals
    return arrivals


def register(broker: TimerBroker, stop: asyncio.Event) -> Tasks:
    """Register the tasks with the broker; returns those that hints use. A worker needs `take_with` first.

    While PostgreSQL is away a task waits and does not fail: a page is acknowledged in the stream only once it is a row.
    As many tasks wait as the worker runs at once; the others stay in the stream.
    """

    async def outlast(work: Callable[[], Awaitable[object]]) -> None:
        # A task that raises at a stop is given back by the worker, and another worker takes it.
        await retry_until(stop, work, passing=lambda error: error.code in _PASSING)

    @broker.task(task_name=SUBMIT)
    async def submit_page(job: NotificationJob) -> None:
        if not isinstance(job, NotificationJob):  # the annotation does not force a sender to keep to it
            raise TaskRejectedError
        try:
            await outlast(lambda: arrivals_of(broker).submit(job))
        except TocsinError as error:
            if error.code is grpc.StatusCode.INVALID_ARGUMENT:
                raise TaskRejectedError from error  # a repeat cannot succeed: it becomes a dead letter at once
            raise

    @broker.task(task_name=SUBMIT_SET)
    async def submit_pages(request: SubmitNotificationsRequest) -> None:
        if not isinstance(request, SubmitNotificationsRequest):
            raise TaskRejectedError
        await outlast(lambda: arrivals_of(broker).submit_all(request.jobs))

    @broker.task(task_name=DELIVER)
    async def deliver_notification(notification: str) -> None:
        id = UUID(notification)
        await outlast(lambda: arrivals_of(broker).deliver(id))

    @broker.task(task_name=RELEASE)
    async def release_messages(message: str) -> None:
        arrivals_of(broker).release()  # everything that is due: one look at the rows for all of them

    return Tasks(deliver_notification, release_messages)


def jobs_reader(broker: TimerBroker) -> Callable[[bytes], Sequence[NotificationJob]]:
    """Reads the jobs from a message of the stream. Raises ValueError for anything else."""

    def read(data: bytes) -> Sequence[NotificationJob]:
        message = broker.formatter.loads(data)
        argument = message.args[0] if len(message.args) == 1 else None
        if message.task_name == SUBMIT and isinstance(argument, NotificationJob):
            return [argument]
        if message.task_name == SUBMIT_SET and isinstance(argument, SubmitNotificationsRequest):
            return argument.jobs
        raise ValueError(f"no {SUBMIT} with a NotificationJob and no {SUBMIT_SET}, but {message.task_name!r}")

    return read
