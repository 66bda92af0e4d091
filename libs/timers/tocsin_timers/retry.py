"""What becomes of a task that raised: a retry, or a dead letter."""

import asyncio
import logging
from typing import Final, Protocol, runtime_checkable

from taskiq.abc.broker import AsyncBroker
from taskiq.abc.middleware import TaskiqMiddleware
from taskiq.exceptions import NoResultError, TaskRejectedError
from taskiq.labels import LabelType
from taskiq.message import BrokerMessage, TaskiqMessage
from taskiq.result import TaskiqResult

from tocsin_timers import delivery as deliveries
from tocsin_timers.backoff import full_jitter
from tocsin_timers.delivery import Outcome
from tocsin_timers.shard import DELAYED_PREFIX

logger = logging.getLogger(__name__)

ATTEMPT: Final = "attempt"
"""The label that counts: absent on the first attempt, 2 on the second."""


@runtime_checkable
class _Keeper(Protocol):
    async def bury(self, message: BrokerMessage, reason: str) -> None: ...


class BackoffMiddleware(TaskiqMiddleware):
    """Retries with full-jitter exponential backoff, then the dead-letter stream.

    The label `attempts` on a task or a call overrides how many there are. A task that calls `Context.reject()` is dead at once;
    one that raises NoResultError (as `Context.requeue()` does) has not failed. Where Taskiq's own retry middlewares are on
    (SimpleRetry, SmartRetry), messages that they give up come here. Under `Worker` the retry, or the dead letter, and the end of
    this attempt are one step in Redis. Under the stock receiver the retry is sent first: a process killed in between runs that
    attempt again.
    """

    def __init__(self, attempts: int = 5, base: float = 1.0, cap: float = 300.0) -> None:
        """`attempts` includes the first; `base` and `cap` are seconds, see `full_jitter`."""
        super().__init__()
        self.attempts = attempts
        self.base = base
        self.cap = cap

    def set_broker(self, broker: AsyncBroker) -> None:
        """Raises TypeError for a broker without a dead-letter stream."""
        if not isinstance(broker, _Keeper):
            raise TypeError(f"{type(broker).__name__} has no dead-letter stream: this middleware needs a TimerBroker")
        super().set_broker(broker)

    async def on_error(self, message: TaskiqMessage, result: "TaskiqResult[object]", exception: BaseException) -> None:
        """Taskiq's hook. Raises what sending the retry raises, under the stock receiver only."""
        if isinstance(exception, (NoResultError, asyncio.CancelledError)):
            return
        if isinstance(result.error, NoResultError):
            return  # another middleware, such as Taskiq's SmartRetry, has sent it again
        attempt = int(message.labels.get(ATTEMPT, 1))
        most = int(message.labels.get("attempts", self.attempts))
        if attempt >= most or isinstance(exception, TaskRejectedError):
            cause = "rejected" if isinstance(exception, TaskRejectedError) else f"attempt {attempt} of {most}"
            await self._bury(message, f"{cause}: {type(exception).__name__}: {exception}")
            return
        delay = full_jitter(attempt, self.base, self.cap)
        logger.info(
            "%s %s: attempt %d of %d failed, next in %.2f s", message.task_name, message.task_id, attempt, most, delay
        )
        await self._retry(message, attempt + 1, delay)
        # The result is not final: nothing is stored for the callers that wait for it.
        result.error = NoResultError()

    async def _retry(self, message: TaskiqMessage, attempt: int, delay: float) -> None:
        labels = {**message.labels, ATTEMPT: attempt}
        kinds = {**(message.labels_types or {}), ATTEMPT: LabelType.INT.value}
        encoded = self.broker.formatter.dumps(message.model_copy(update={"labels": labels, "labels_types": kinds}))
        delivery = deliveries.current.get()
        if delivery is None:
            await self.broker.kick(encoded.model_copy(update={"labels": {**labels, "delay": delay}}))
            return
        value = delivery.priority[0].encode() + encoded.message
        # Under the name of the entry, not of the task: a failed run that was delivered twice is still one retry, and two
        # runs of one task id stay two. An entry's id is unique in its stream only.
        name = f"{DELAYED_PREFIX}{delivery.priority[0]}{delivery.entry.decode()}"
        delivery.outcome = Outcome("retry", (int(delay * 1_000_000), name, value))

    async def _bury(self, message: TaskiqMessage, reason: str) -> None:
        logger.error("%s %s: dead: %s", message.task_name, message.task_id, reason)
        delivery = deliveries.current.get()
        if delivery is None:
            assert isinstance(self.broker, _Keeper)
            await self.broker.bury(self.broker.formatter.dumps(message), reason)
            return
        # A retry travels under a name of its own; the timer it began as is in its label.
        timer = delivery.timer or str(message.labels.get("schedule_id", ""))
        delivery.outcome = Outcome("bury", (delivery.data or b"", reason, timer))
