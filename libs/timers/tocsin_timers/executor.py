"""Runs one delivery: Taskiq's receiver, except that no message is lost."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor as Pool
from typing import Any

from google.protobuf.message import Message
from taskiq import TaskiqMiddleware, TaskiqResult
from taskiq.acks import AckController, AcknowledgeType
from taskiq.exceptions import NoResultError
from taskiq.message import TaskiqMessage
from taskiq.receiver import Receiver
from taskiq.result_backends.dummy import DummyResultBackend
from taskiq.utils import maybe_awaitable

from tocsin_timers import delivery as deliveries
from tocsin_timers.broker import TimerBroker
from tocsin_timers.consumer import Consumer
from tocsin_timers.delivery import DONE, Delivery, Outcome

logger = logging.getLogger(__name__)


class Abandoned(Exception):
    """The task was cut off because its worker stops: it is given back."""


class Executor(Receiver):
    """Taskiq's Receiver for its way of running a task (`run_task`: arguments, dependencies, time-outs, threads).

    `execute` stands for its `callback`, which acknowledges, and so drops, what cannot be read and what names an
    unknown task, and never acknowledges what a middleware raised on (taskiq#322, taskiq#578: no reject, no dead
    letters). Its prefetcher and runner are not used: they cost half of the time of a small task, swallow a
    cancellation without uvloop, and read before there is room. Delete this class when upstream can settle.
    """

    def __init__(self, broker: TimerBroker, concurrency: int, ack_type: AcknowledgeType, pool: Pool | None) -> None:
        super().__init__(broker, pool, max_async_tasks=concurrency, run_startup=False, ack_type=ack_type)
        self._timers = broker
        self._no_results = isinstance(broker.result_backend, DummyResultBackend)
        self._before = _with_own("pre_execute", broker.middlewares)
        self._afterwards = _with_own("post_execute", reversed(broker.middlewares))
        self._saved = _with_own("post_save", reversed(broker.middlewares))

    def _prepare_task(self, name: str, handler: Callable[..., Any]) -> None:
        super()._prepare_task(name, handler)
        # Pydantic cannot parse into protobuf messages and logs a traceback for each; they arrive as what they are.
        hints = self.task_hints[name]
        for parameter, hint in list(hints.items()):
            if isinstance(hint, type) and issubclass(hint, Message):
                del hints[parameter]

    async def execute(self, delivery: Delivery, consumer: Consumer) -> bool:
        """Run the task; whether its delivery is still to be settled, as its outcome says.

        Raises Abandoned when the task was cancelled from outside.
        """
        deliveries.current.set(delivery)
        metrics = self._timers.metrics
        lateness = consumer.lateness(delivery)
        if lateness is not None:
            metrics.lateness.observe(lateness)
        started = time.monotonic()
        opened = self._open(delivery)
        settled = opened is not None and await self._perform(*opened, delivery, consumer)
        metrics.seconds.observe(time.monotonic() - started)
        if delivery.outcome is None:
            # The task itself must acknowledge it, and did not: as after a crash, a worker runs it again when the lease ends.
            consumer.forget(delivery)
            return False
        match delivery.outcome.verdict:
            case "done":
                metrics.executed.inc()
            case "retry":
                metrics.failed.inc()
            case "bury":
                metrics.dead.inc()
        return not settled

    def _open(self, delivery: Delivery) -> tuple[TaskiqMessage, Callable[..., Any]] | None:
        assert delivery.data is not None
        try:
            message = self.broker.formatter.loads(delivery.data)
            message.parse_labels()
        except Exception as error:
            # A formatter may raise anything: a message that cannot be read is kept, with the reason.
            self._bury(delivery, f"unreadable: {type(error).__name__}: {error}")
            return None
        if delivery.timer:
            message.task_id = message.task_id or delivery.timer
            message.labels["schedule_id"] = delivery.timer
        message.labels.setdefault("priority", delivery.priority)
        task = self.broker.find_task(message.task_name)
        if task is None:
            self._bury(delivery, f"unknown task {message.task_name!r}")
            return None
        return message, task.original_func

    def _bury(self, delivery: Delivery, reason: str) -> None:
        logger.error("%s: %s: dead: %s", self._timers.queue, delivery.entry.decode(), reason)
        delivery.outcome = Outcome("bury", (delivery.data or b"", reason, delivery.timer))

    async def _perform(
        self, message: TaskiqMessage, function: Callable[..., Any], delivery: Delivery, consumer: Consumer
    ) -> bool:
        """Run the task; whether it was acknowledged before its end. Otherwise the outcome says how to settle it."""
        ack = AckController(lambda: self._done_early(delivery, consumer))
        when = AcknowledgeType.WHEN_SAVED
        failed = False
        try:
            for middleware in self._before:
                message = await maybe_awaitable(middleware.pre_execute(message))
            when = self._get_ack_time(message)
            if when == AcknowledgeType.WHEN_RECEIVED:
                await ack.ack()
            result = await self.run_task(function, message, ack)
            if isinstance(result.error, asyncio.CancelledError):
                raise Abandoned
            failed = result.is_err
            if when == AcknowledgeType.WHEN_EXECUTED and not failed:
                await ack.ack()
            await self._after(message, result)
        except (Abandoned, asyncio.CancelledError):
            raise Abandoned from None
        except Exception as error:
            # A middleware or a bad ack_type: an attempt that failed, not one to run for ever.
            logger.exception("%s %s: failed around the task", message.task_name, message.task_id)
            if not failed and not ack.is_acked:
                failed = True
                failure = TaskiqResult[Any](is_err=True, return_value=None, execution_time=0, error=error)
                await self._timers.backoff.on_error(message, failure, error)
        if ack.is_acked:
            delivery.outcome = DONE
            return True
        if delivery.outcome is None and (failed or when != AcknowledgeType.MANUAL):
            # Failed and yet no outcome: NoResultError, which is no failure, as Context.requeue() raises it.
            delivery.outcome = DONE
        return False

    async def _after(self, message: TaskiqMessage, result: "TaskiqResult[Any]") -> None:
        for middleware in self._afterwards:
            await maybe_awaitable(middleware.post_execute(message, result))
        if isinstance(result.error, NoResultError):
            return
        try:
            if not self._no_results:
                await self.broker.result_backend.set_result(message.task_id, result)
            for middleware in self._saved:
                await maybe_awaitable(middleware.post_save(message, result))
        except Exception:
            # As in Taskiq's own receiver. The task had its effect: running it again would repeat the effect, and need not store
            # the result.
            logger.exception("%s %s: its result could not be stored", message.task_name, message.task_id)

    async def _done_early(self, delivery: Delivery, consumer: Consumer) -> None:
        """Acknowledged before the end: from here on no other worker gets it, and a failure does not repeat it."""
        delivery.outcome = DONE
        await consumer.settle(delivery)


def _with_own(hook: str, middlewares: Iterable[TaskiqMiddleware]) -> list[TaskiqMiddleware]:
    """Only middlewares that do something there: awaiting the empty methods of the others costs as much as a small task."""
    return [
        middleware for middleware in middlewares if getattr(type(middleware), hook) != getattr(TaskiqMiddleware, hook)
    ]
