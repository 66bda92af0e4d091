"""What arrives through Redis: pages from escalation, and reminders of our own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import grpc
from taskiq.decor import AsyncTaskiqDecoratedTask
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.errors import TocsinError
from tocsin_kit.loops import backoff, wait_or_stop
from tocsin_timers import TimerBroker

SUBMIT: Final = "notify.submit"
"""The task escalation sends, with a NotificationJob as its only argument."""
DELIVER: Final = "notify.deliver"

DeliverTask = AsyncTaskiqDecoratedTask[Any, Any]


def register(
    broker: TimerBroker,
    submit: Callable[[NotificationJob], Awaitable[object]],
    deliver: Callable[[UUID], Awaitable[object]],
    stop: asyncio.Event,
) -> DeliverTask:
    """Make the tasks known to the broker; returns the one that delivers.

    With PostgreSQL away a task waits instead of failing: a page is acknowledged in the stream only once it is a row. As
    many tasks wait as the worker runs at once; the rest stays in the stream.
    """

    async def outlast(work: Callable[[], Awaitable[object]]) -> None:
        failures = 0
        while True:
            try:
                await work()
            except TocsinError as error:
                if error.code not in _PASSING:
                    raise
                failures += 1
                if await wait_or_stop(stop, backoff(failures, base=0.05, cap=1.0)):
                    raise  # the worker gives it back; somebody else takes it
            else:
                return

    @broker.task(task_name=SUBMIT)
    async def submit_page(job: NotificationJob) -> None:
        await outlast(lambda: submit(job))

    @broker.task(task_name=DELIVER)
    async def deliver_notification(notification: str) -> None:
        id = UUID(notification)
        await outlast(lambda: deliver(id))

    return deliver_notification


_PASSING: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED})
