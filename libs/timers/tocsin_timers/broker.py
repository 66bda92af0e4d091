"""The Taskiq broker: sending now, sending later, and the operator's functions."""

import asyncio
import functools
import math
import zlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from taskiq import AckableMessage
from taskiq.abc.broker import AsyncBroker
from taskiq.decor import AsyncTaskiqDecoratedTask
from taskiq.kicker import AsyncKicker
from taskiq.labels import prepare_label
from taskiq.message import BrokerMessage, TaskiqMessage
from taskiq.utils import maybe_awaitable

from tocsin_timers import dead_letters, stock_receiver
from tocsin_timers.batching import MOST_PER_CALL, Batcher
from tocsin_timers.circuit import Circuit
from tocsin_timers.connections import Connections
from tocsin_timers.consumer import Consumer
from tocsin_timers.encoded import Encoded
from tocsin_timers.errors import QueueFull
from tocsin_timers.figures import DeadLetter, QueueFigures
from tocsin_timers.formatter import ProtobufFormatter
from tocsin_timers.metrics import TimerMetrics
from tocsin_timers.refill import refill
from tocsin_timers.retry import BackoffMiddleware
from tocsin_timers.shard import DELAYED_PREFIX, Shard

Callable_ = AsyncTaskiqDecoratedTask[Any, Any] | AsyncKicker[Any, Any]


class TimerBroker(AsyncBroker):
    """A Taskiq broker on Redis streams that honours the `delay` label, with any number of senders and workers.

    The labels it reads from a task or a call: `delay`, seconds until it may run; `priority`, one of `priorities`;
    `attempts`, see BackoffMiddleware. Tasks run in `Worker` (beside other things in a process) or under Taskiq's own
    `taskiq worker`. Nothing here runs `taskiq scheduler`. Delivery is at least once.

    Making one connects to nothing, and neither does `startup()`: with Redis away a process starts, its sends fail at
    once or after `command_timeout`, and its workers come to life when Redis does.
    """

    def __init__(
        self,
        url: str,
        queue: str = "taskiq",
        *,
        shards: int = 1,
        priorities: Sequence[str] = ("critical", "normal"),
        group: str = "workers",
        lease: float = 10.0,
        max_deliveries: int = 5,
        max_waiting: int = 0,
        most_dead: int = 100_000,
        command_timeout: float = 1.0,
        circuit: Circuit | None = None,
        backoff: BackoffMiddleware | None = None,
        metrics: TimerMetrics | None = None,
    ) -> None:
        """`url`: see `Connections.from_url`; Sentinel and Cluster are other schemes of it.

        `shards`: how many hash slots hold the queue; more than one only spreads it over the masters of a Cluster or eases one
        saturated core. Must be the same everywhere; changing it needs an empty queue. `priorities`: read first to last; what has
        no label is of the last. Their first letters must differ, ignoring case, as that letter is all that a pending timer
        stores. `lease`: seconds of silence after which a worker counts as dead and its messages are given to others.
        `max_deliveries`: how often an entry may be taken over from dead workers before it counts as the cause of their death.
        `max_waiting`: per priority and shard, sends beyond it raise QueueFull; 0: no limit. Timers are not counted. `most_dead`:
        dead letters kept per shard; beyond it the oldest are forgotten, and counted. `command_timeout`: seconds to connect, and
        again to answer, before a command fails. After a command that timed out, the others fail at once until Redis answers
        again. `circuit`: that of another broker of this process on the same server, so that both share its state. `backoff`: what
        becomes of tasks that raise.
        """
        super().__init__()
        if not priorities or len({priority[:1].lower() for priority in priorities}) != len(priorities):
            raise ValueError(f"priorities must begin with different letters: {priorities!r}")
        if shards < 1 or lease <= 0 or most_dead < 1 or "{" in queue or "}" in queue:
            raise ValueError("shards, lease and most_dead must be positive, and a queue's name must hold no braces")
        self.queue = queue
        self.priorities = tuple(priorities)
        self.lease = lease
        self.max_deliveries = max_deliveries
        self.metrics = metrics or TimerMetrics(None, queue)
        # A blocking read that ends well within the lease cannot deliver an entry that was taken over since.
        self.block = min(5.0, lease / 4)
        self._max_waiting = max_waiting
        self._connections = Connections.from_url(
            url, command_timeout=command_timeout, block=self.block, circuit=circuit
        )
        tags = [queue] if shards == 1 else [f"{queue}:{number}" for number in range(shards)]
        self.shards = [
            Shard(n, tag, self.priorities, group, self._connections, most_dead) for n, tag in enumerate(tags)
        ]
        self._armers = [Batcher(shard.arm_each) for shard in self.shards]
        self._cancellers = [Batcher(shard.cancel) for shard in self.shards]
        self._senders = [Batcher(functools.partial(shard.send, most_waiting=max_waiting)) for shard in self.shards]
        self._started = False
        self.consumers: list[Consumer] = []
        self.formatter = ProtobufFormatter()
        self.backoff = backoff or BackoffMiddleware()
        self.add_middlewares(self.backoff)

    # Sending

    async def kick(self, message: BrokerMessage) -> None:
        """Send one message now, or after its `delay`. Concurrent calls share a round trip.

        Raises redis.exceptions.RedisError when Redis is away (what was sent may then have arrived or not), QueueFull,
        and ValueError for labels that make no sense; under `kiq` all of them are the cause of a SendTaskError.
        """
        delay, priority = self._labels(message)
        shard = self.shard_of(message.task_id)
        if delay > 0:
            await self._armers[shard].submit(self._delayed(message, delay, priority))
        elif not await self._senders[shard].submit((priority, message.message)):
            raise QueueFull(f"{self.queue}: {self._max_waiting} messages of priority {priority} are waiting")

    async def kick_many(self, messages: Iterable[BrokerMessage | Encoded]) -> None:
        """Send many, in order within a shard, one round trip per thousand. Middlewares do not see them.

        Raises as `kick`; those of earlier thousands have then been sent.
        """
        now: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
        later: dict[int, list[tuple[str, str, bytes]]] = defaultdict(list)
        for message in messages:
            delay, priority = self._labels(message)
            shard = self.shard_of(message.task_id)
            if delay > 0:
                later[shard].append(self._delayed(message, delay, priority))
            else:
                now[shard].append((priority, message.message))
        for shard, entries in later.items():
            for start in range(0, len(entries), MOST_PER_CALL):
                await self.shards[shard].arm(entries[start : start + MOST_PER_CALL])
        for shard, sends in now.items():
            for start in range(0, len(sends), MOST_PER_CALL):
                sent = await self.shards[shard].send(sends[start : start + MOST_PER_CALL], self._max_waiting)
                if not all(sent):
                    raise QueueFull(f"{self.queue}: {sent.count(False)} messages of this thousand were refused")

    def encode(
        self,
        task: Callable_,
        *args: Any,
        task_id: str | None = None,
        labels: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BrokerMessage:
        """A message for `kick_many` or a Timer, past the middlewares. `labels` go over the task's."""
        merged = {**task.labels, **(labels or {})}
        prepared = {name: prepare_label(label) for name, label in merged.items() if name != "types_of_exceptions"}
        message = TaskiqMessage(
            task_id=self.id_generator() if task_id is None else task_id,
            task_name=task.task_name,
            labels={name: text for name, (text, _) in prepared.items()},
            labels_types={name: kind for name, (_, kind) in prepared.items()},
            args=list(args),
            kwargs=kwargs,
        )
        return self.formatter.dumps(message)

    async def cancel_delayed(self, task_id: str) -> bool:
        """Take back a message that was sent with the `delay` label; returns whether it was still pending. Timers: `TimerSource`."""
        return await self._cancellers[self.shard_of(task_id)].submit(DELAYED_PREFIX + task_id)

    # Pending timers, for TimerSource

    def shard_of(self, id: str) -> int:
        """The shard that holds this id, the same in every process."""
        return zlib.crc32(id.encode()) % len(self.shards) if len(self.shards) > 1 else 0

    async def cancel_one(self, id: str) -> bool:
        """Whether it was still pending. Concurrent calls share a round trip."""
        return await self._cancellers[self.shard_of(id)].submit(id)

    async def cancel(self, ids: Iterable[str]) -> int:
        """How many were still pending. One round trip for each thousand and shard."""
        by_shard: dict[int, list[str]] = defaultdict(list)
        for id in ids:
            by_shard[self.shard_of(id)].append(id)
        cancelled = 0
        for shard, group in by_shard.items():
            for start in range(0, len(group), MOST_PER_CALL):
                cancelled += sum(await self.shards[shard].cancel(group[start : start + MOST_PER_CALL]))
        return cancelled

    def priority_of(self, labels: dict[str, Any]) -> str:
        """Raises ValueError for a priority this queue does not have."""
        priority = labels.get("priority")
        if priority is None:
            return self.priorities[-1]
        if priority not in self.priorities:
            raise ValueError(f"unknown priority {priority!r}: this queue has {', '.join(self.priorities)}")
        return str(priority)

    def _labels(self, message: BrokerMessage | Encoded) -> tuple[float, str]:
        delay = float(message.labels.get("delay") or 0)
        if not math.isfinite(delay):
            raise ValueError(f"a delay of {delay} seconds")
        return delay, self.priority_of(message.labels)

    def _delayed(self, message: BrokerMessage | Encoded, delay: float, priority: str) -> tuple[str, str, bytes]:
        due = f"+{math.ceil(delay * 1_000_000)}"
        return due, DELAYED_PREFIX + message.task_id, priority[0].encode() + message.message

    # Life

    async def startup(self) -> None:
        """Run the start-up handlers, once. Redis is not asked for anything."""
        if not self._started:
            self._started = True
            await super().startup()

    async def shutdown(self) -> None:
        """Run the shutdown handlers if `startup` ran, give back what stock receivers hold, close the connections."""
        if self._started:
            self._started = False
            await super().shutdown()
        for consumer in self.consumers:
            await consumer.stop()
        self.consumers.clear()
        await self._connections.close()

    @property
    def started(self) -> bool:
        """Whether `startup` ran and `shutdown` did not."""
        return self._started

    def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """For receivers other than ours: see stock_receiver."""
        return stock_receiver.listen(self)

    @property
    def circuit(self) -> Circuit | None:
        """The state of this process about a hanging Redis, for `circuit` of another broker. None on a Cluster."""
        return self._connections.circuit

    # Operating

    async def check(self) -> None:
        """Raises RedisError when Redis is away, does not answer, or refuses to store anything (full, a replica)."""
        await asyncio.gather(*(shard.check() for shard in self.shards))

    async def pause(self) -> None:
        """Stop every worker of this queue from starting tasks; running ones finish. Kept in Redis until `resume`."""
        await asyncio.gather(*(shard.pause(True) for shard in self.shards))

    async def resume(self) -> None:
        """Let every worker of this queue start tasks again, within a second."""
        await asyncio.gather(*(shard.pause(False) for shard in self.shards))

    async def is_paused(self) -> bool:
        """Whether any shard is: an interrupted `pause` counts."""
        return any(await asyncio.gather(*(shard.is_paused() for shard in self.shards)))

    async def figures(self) -> QueueFigures:
        """One round trip per shard."""
        rows = await asyncio.gather(*(shard.figures() for shard in self.shards))
        waiting, active, delayed, overdue, dead, completed, failed, forgotten, paused, *ages = zip(*rows, strict=True)
        return QueueFigures(
            waiting=sum(waiting),
            active=sum(active),
            delayed=sum(delayed),
            overdue=sum(overdue),
            dead=sum(dead),
            completed=sum(completed),
            failed=sum(failed),
            forgotten=sum(forgotten),
            paused=any(paused),
            oldest_waiting_seconds=max(0, *ages[0]) / 1_000_000,
            oldest_active_seconds=max(0, *ages[1]) / 1_000_000,
            oldest_overdue_seconds=max(0, *ages[2]) / 1_000_000,
        )

    async def refill(self, arm_all: Callable[[], Awaitable[object]]) -> bool:
        """Call `arm_all` if Redis is not the one that was filled last, with its data: after it was flushed, restarted, failed
        over or replaced, and the very first time. Ask each second, in any number of processes.

        One process at a time fills. When it dies another one begins within a lease; when Redis loses its data again meanwhile,
        the next caller begins again. `arm_all` is to arm everything that is pending, nearest first (`TimerSource.arm`).

        True: Redis holds all that it was given. False: another process is filling it, or it lost its data again: ask again.
        Raises RedisError, and what `arm_all` raises; then it counts as not filled.
        """
        return await refill(self.shards, self.lease, arm_all)

    async def dead_letters(self, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """At most `limit` dead letters following the id `after`, oldest first within a shard."""
        return await dead_letters.read(self.shards, self.formatter, self.priorities, limit, after)

    async def redrive(self, ids: Iterable[str]) -> int:
        """Send dead letters again, with all their attempts; how many were still dead. Repeatable."""
        return await dead_letters.redrive(self.shards, self.formatter, ids)

    async def discard(self, ids: Iterable[str]) -> int:
        """Remove dead letters for good; how many there were."""
        return await dead_letters.discard(self.shards, ids)

    async def bury(self, message: BrokerMessage, reason: str) -> None:
        """Put a message among the dead letters."""
        shard = self.shards[self.shard_of(message.task_id)]
        await shard.bury(self.priority_of(message.labels), message.message, reason)


async def through_middlewares(broker: AsyncBroker, message: TaskiqMessage) -> TaskiqMessage:
    """What `kiq` does before it sends: middlewares may change the message (traces, metrics)."""
    for middleware in broker.middlewares:
        message = await maybe_awaitable(middleware.pre_send(message))
    return message
