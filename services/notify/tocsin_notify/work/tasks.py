"""What arrives through Redis: pages from escalation, and reminders of our own."""

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
"""The same for several at once, with a SubmitNotificationsRequest."""
DELIVER: Final = "notify.deliver"
RELEASE: Final = "notify.release"
ANY: Final = ""
"""The argument of RELEASE, by which the version before told messages apart; its workers want one."""

_PASSING: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED})
"""Trying again can succeed: the database is away, or too much waits for it."""


class Tasks(NamedTuple):
    """The tasks that remind us of rows of our own."""

    deliver: AsyncTaskiqDecoratedTask[Any, Any]
    release: AsyncTaskiqDecoratedTask[Any, Any]


def take_with(broker: TimerBroker, arrivals: Arrivals) -> None:
    """Have this take what the tasks bring."""
    broker.state.arrivals = arrivals


def arrivals_of(broker: TimerBroker) -> Arrivals:
    """What `take_with` was given."""
    arrivals: Arrivals = broker.state.arrivals
    return arrivals


def register(broker: TimerBroker, stop: asyncio.Event) -> Tasks:
    """Make the tasks known to the broker; returns those that hints are made of. A worker needs `take_with` first.

    With PostgreSQL away a task waits instead of failing: a page is acknowledged in the stream only once it is a row. As
    many tasks wait as the worker runs at once; the rest stays in the stream.
    """

    async def outlast(work: Callable[[], Awaitable[object]]) -> None:
        # What raises at a stop is given back by the worker; another worker takes it.
        await retry_until(stop, work, passing=lambda error: error.code in _PASSING)

    @broker.task(task_name=SUBMIT)
    async def submit_page(job: NotificationJob) -> None:
        if not isinstance(job, NotificationJob):  # the annotation binds no sender
            raise TaskRejectedError
        try:
            await outlast(lambda: arrivals_of(broker).submit(job))
        except TocsinError as error:
            if error.code is grpc.StatusCode.INVALID_ARGUMENT:
                raise TaskRejectedError from error  # it will not get better: straight to the dead letters
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
    """Reads the jobs out of a message of the stream. Raises ValueError for anything else."""

    def read(data: bytes) -> Sequence[NotificationJob]:
        message = broker.formatter.loads(data)
        argument = message.args[0] if len(message.args) == 1 else None
        if message.task_name == SUBMIT and isinstance(argument, NotificationJob):
            return [argument]
        if message.task_name == SUBMIT_SET and isinstance(argument, SubmitNotificationsRequest):
            return argument.jobs
        raise ValueError(f"no {SUBMIT} with a NotificationJob and no {SUBMIT_SET}, but {message.task_name!r}")

    return read
