"""Delivering to receivers that are not ours, above all those of the `taskiq worker` command."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any, Final, Protocol

from taskiq import AckableMessage
from taskiq.abc.formatter import TaskiqFormatter

from tocsin_timers.consumer import Consumer, Queue
from tocsin_timers.delivery import DONE, Delivery, Outcome

logger = logging.getLogger(__name__)

PREFETCH: Final = 10
LEASES_HELD: Final = 60
"""A stock receiver does not say when it lost a message: after this many leases it is given to another worker."""


class Listened(Queue, Protocol):
    """What is listened to (`TimerBroker`)."""

    formatter: TaskiqFormatter
    consumers: list[Consumer]

    def find_task(self, task_name: str) -> Any:
        """The task of this name, or None."""


async def listen(broker: Listened) -> AsyncGenerator[AckableMessage, None]:
    """What AsyncBroker.listen promises. What a stock receiver would drop (unreadable, unknown task) is buried here."""
    arrived: asyncio.Queue[Delivery] = asyncio.Queue()
    asked = False

    def room(priority: str) -> int:
        # A receiver that is busy takes nothing: another one may be free.
        return PREFETCH - arrived.qsize() if asked else 0

    consumer = Consumer(
        broker,
        room,
        arrived.put_nowait,
        longest_hold=LEASES_HELD * broker.lease,
    )
    broker.consumers.append(consumer)
    consumer.start()
    try:
        while True:
            asked = True
            consumer.room_changed()
            delivery = await arrived.get()
            asked = False
            if not consumer.fresh(delivery):
                continue
            delivery.running = True
            data = _readable(broker, delivery)
            if data is None:
                await consumer.settle(delivery)
                continue
            yield AckableMessage(data=data, ack=_Ack(consumer, delivery))
    finally:
        # What runs goes on, and its leases are kept until the broker shuts down.
        await consumer.stop_reading()


class _Ack:
    def __init__(self, consumer: Consumer, delivery: Delivery) -> None:
        self._consumer = consumer
        self._delivery = delivery

    async def __call__(self) -> None:
        self._delivery.outcome = DONE
        await self._consumer.settle(self._delivery)


def _readable(broker: Listened, delivery: Delivery) -> bytes | None:
    """The message with the ids a timer's message leaves to its key; None: the outcome says why it is dead."""
    assert delivery.data is not None
    try:
        message = broker.formatter.loads(delivery.data)
        if broker.find_task(message.task_name) is None:
            raise LookupError(f"unknown task {message.task_name!r}")
    except Exception as error:
        logger.error("%s: %s: dead: %s", broker.queue, delivery.entry.decode(), error)
        delivery.outcome = Outcome("bury", (delivery.data, f"unreadable: {error}", delivery.timer))
        return None
    if not delivery.timer:
        return delivery.data
    message.task_id = message.task_id or delivery.timer
    message.labels["schedule_id"] = delivery.timer
    return broker.formatter.dumps(message).message
