"""Runs a queue's tasks inside any asyncio process."""

import asyncio
import logging
from collections import deque
from concurrent.futures import Executor as Pool

from taskiq.acks import AcknowledgeType

from tocsin_timers.broker import TimerBroker
from tocsin_timers.consumer import Consumer
from tocsin_timers.delivery import Delivery
from tocsin_timers.executor import Abandoned, Executor

logger = logging.getLogger(__name__)


class Worker:
    """Takes tasks from the broker's streams and runs them, and promotes timers; beside a server in the same loop.

    It reads only what it has room for, so a slow task never sits in front of one that another worker could run.
    Higher priorities go first, and the first has an eighth of the slots to itself: slow normal tasks cannot fill a
    worker. It outlives outages of Redis and takes up its work when Redis is back, empty or not.
    """

    def __init__(
        self,
        broker: TimerBroker,
        *,
        concurrency: int = 50,
        rate_limit: float | None = None,
        grace: float = 20.0,
        ack_type: AcknowledgeType = AcknowledgeType.WHEN_SAVED,
        pool: Pool | None = None,
    ) -> None:
        """`concurrency`: tasks at once here. `rate_limit`: tasks started per second by all workers of the queue
        together, see Consumer. `grace`: seconds for running tasks to end once `run` is told to stop. `pool`: for
        tasks that are plain functions; None: the loop's default threads.
        """
        if concurrency < 1:
            raise ValueError("a worker without room for a task")
        self._broker = broker
        self._concurrency = concurrency
        self._reserve = self._reserved(concurrency)
        self._rate_limit = rate_limit
        self._grace = grace
        self._ack_type = ack_type
        self._pool = pool
        self._waiting: dict[str, deque[Delivery]] = {priority: deque() for priority in broker.priorities}
        self._tasks: set[asyncio.Task[None]] = set()
        self._executing = 0
        self._stopping = False
        self._running = False

    def resize(self, concurrency: int) -> None:
        """So many tasks at once from now on. What runs beyond that goes on; nothing new begins until there is room.

        Plain functions (`pool`) keep the number of threads that they had when `run` began.
        """
        if concurrency < 1:
            raise ValueError("a worker without room for a task")
        self._concurrency = concurrency
        self._reserve = self._reserved(concurrency)
        if self._running:
            self._fill()
            self._consumer.room_changed()

    def _reserved(self, concurrency: int) -> int:
        return max(1, concurrency // 8) if concurrency > 1 and len(self._broker.priorities) > 1 else 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then take nothing more, let running tasks end within the grace, cancel those that
        did not, and give everything unfinished back for others to take at once.

        Starts the broker if it is not started, and then also shuts it down. Raises only what its start-up handlers raise.
        """
        owner = not self._broker.started
        if owner:
            self._broker.is_worker_process = True
            await self._broker.startup()
        self._stopping = False
        self._executor = Executor(self._broker, self._concurrency, self._ack_type, self._pool)
        self._consumer = Consumer(
            self._broker, self._room, self._accept, resumed=self._fill, rate_limit=self._rate_limit
        )
        self._consumer.start()
        self._running = True
        try:
            await stop.wait()
            await self._consumer.stop_reading()
            await self._drain(self._grace)
        finally:
            self._running = False
            self._stopping = True
            await self._drain(0)
            await self._consumer.stop()
            if owner:
                await self._broker.shutdown()

    def _room(self, priority: str) -> int:
        # What has ended and is not settled yet takes no slot, but there must be an end to it.
        if self._stopping or len(self._tasks) >= 2 * self._concurrency:
            return 0
        room = self._concurrency - self._executing - sum(map(len, self._waiting.values()))
        return room if priority == self._broker.priorities[0] else room - self._reserve

    def _accept(self, delivery: Delivery) -> None:
        self._waiting[delivery.priority].append(delivery)
        self._fill()

    def _fill(self) -> None:
        """Start what waits, the highest priority first."""
        if self._stopping or self._consumer.paused:
            return
        slots = self._concurrency
        for waiting in self._waiting.values():
            while waiting and self._executing < slots:
                delivery = waiting.popleft()
                if self._consumer.fresh(delivery):
                    delivery.running = True
                    self._executing += 1
                    task = asyncio.create_task(self._run(delivery))
                    self._tasks.add(task)
                    task.add_done_callback(self._settled)
            slots = self._concurrency - self._reserve

    async def _run(self, delivery: Delivery) -> None:
        try:
            unsettled = await self._executor.execute(delivery, self._consumer)
        except (Abandoned, asyncio.CancelledError):
            logger.warning("%s: cut off %s; it is given back", self._broker.queue, delivery.entry.decode())
            return
        except Exception:
            # Kept out of the dead letters on purpose: the lease ends, and a worker tries again.
            logger.exception("%s: could not finish %s", self._broker.queue, delivery.entry.decode())
            self._consumer.forget(delivery)
            return
        finally:
            self._executing -= 1
            self._fill()
            self._consumer.room_changed()
        if unsettled:
            await self._consumer.settle(delivery)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._consumer.room_changed()

    async def _drain(self, grace: float) -> None:
        """Wait for running tasks; then, with no grace left, cancel them and what has not begun."""
        if grace > 0:
            self._stopping = True
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=grace)
            return
        for waiting in self._waiting.values():
            waiting.clear()
        running = list(self._tasks)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=2.0)
