"""The delayed task behind every timer."""

from collections.abc import Coroutine
from typing import Any, Final
from uuid import UUID

from taskiq.decor import AsyncTaskiqDecoratedTask
from tocsin.escalation.v1 import timer_pb2
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_timers import TimerBroker

from tocsin_escalation.domain.events import TimerFired
from tocsin_escalation.store.incidents.timers import LiveTimer
from tocsin_escalation.work.timer_consumer import TimerConsumer

_log = get_logger(__name__)

QUEUE: Final = "escalation"
NOTIFY_QUEUE: Final = "notify"
NOTIFY_TASK: Final = "notify.submit"
NOTIFY_SET_TASK: Final = "notify.submit_set"
"""The same for several pages of one tenant at once, with a SubmitNotificationsRequest as its only argument."""

FireTask = AsyncTaskiqDecoratedTask[[timer_pb2.FireTimer], Coroutine[Any, Any, None]]


def register(broker: TimerBroker) -> FireTask:
    """The task that the broker runs when a timer is due. A process that runs a worker calls `consume_with` first.

    It returns once the firing is committed, or failed: Redis holds only a copy, and the sweep fires the row as soon as PostgreSQL
    allows it. If it were retried here, it would become a dead letter that needs no redrive.
    """

    @broker.task(task_name="escalation.fire_timer")
    async def fire_timer(message: timer_pb2.FireTimer) -> None:
        # Not as a TaskiqDepends: resolving one costs more than all other work for a timer here.
        consumer: TimerConsumer = broker.state.timer_consumer
        timer = TimerFired(UUID(bytes=message.timer_id), message.generation)
        try:
            await consumer.fire(UUID(bytes=message.incident_id), timer)
        except TocsinError as error:
            _log.info("timer_left_to_sweep", incident=str(UUID(bytes=message.incident_id)), error=error.message)

    return fire_timer


def consume_with(broker: TimerBroker, consumer: TimerConsumer) -> None:
    """Let this object fire the due timers."""
    broker.state.timer_consumer = consumer


def fill_body(message: timer_pb2.FireTimer, timer: LiveTimer) -> timer_pb2.FireTimer:
    """Write the body of a timer into `message`: one object serves a million of them."""
    message.timer_id = timer.timer_id.bytes
    message.incident_id = timer.incident_id.bytes
    message.generation = timer.generation
    return message
