"""The Taskiq schedule source: timers by id."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from taskiq import ScheduledTask, ScheduleSource
from taskiq.labels import prepare_label
from taskiq.message import BrokerMessage, TaskiqMessage
from taskiq.utils import maybe_awaitable

from tocsin_timers.batching import MOST_PER_CALL, Batcher, Feed
from tocsin_timers.broker import Callable_, TimerBroker, through_middlewares
from tocsin_timers.encoder import Encoded
from tocsin_timers.errors import ScheduleUnsupported
from tocsin_timers.shard import DELAYED_PREFIX, Shard

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_Armed = tuple[datetime, str, bytes]
"""due, id, priority's letter and message"""


class Timer(NamedTuple):
    """One timer for `TimerSource.arm`. `message` comes from `TimerBroker.encode` or an Encoder; its priority label counts.

    A message encoded with `task_id=""` gets `id` as its task id when it runs, and takes less memory until then.
    A `due` without a time zone is UTC.
    """

    id: str
    due: datetime
    message: BrokerMessage | Encoded


class TimerSource(ScheduleSource):
    """Arms, moves and cancels timers: `task.kicker().with_schedule_id(id).schedule_by_time(source, due, ...)`.

    Arming an id again moves it. A fired timer is gone: its id is free. Every call is atomic for each id and may be
    repeated. The workers of the broker fire what is due; `taskiq scheduler` has nothing to do for this source.
    """

    def __init__(self, broker: TimerBroker, clock: Callable[[], datetime] | None = None) -> None:
        """`clock`: whose now the due times are in. With one, what is sent is `due - clock()` and Redis adds its own
        time, so the clocks of hosts may differ by hours; without one, due times are in Redis' own time.
        """
        self._broker = broker
        self._clock = clock
        self._armers = [Batcher(partial(self._arm_each, shard)) for shard in broker.shards]

    async def get_schedules(self) -> list[ScheduledTask]:
        """Nothing for `taskiq scheduler`: its loop would fire late, and twice with two of them."""
        return []

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """Arm one. Concurrent calls share a round trip.

        Raises ScheduleUnsupported for cron and interval schedules (keep those in a LabelScheduleSource under one
        `taskiq scheduler`, whose tasks this broker takes as any other), and what `TimerBroker.kick` raises.
        """
        due = self._due(schedule)
        message = await self._through_middlewares(schedule)
        id = schedule.schedule_id
        await self._armers[self._broker.shard_of(id)].submit((due, id, self._value(message, id)))
        for middleware in reversed(self._broker.middlewares):
            await maybe_awaitable(middleware.post_send(message))

    async def add_schedules(self, schedules: Iterable[ScheduledTask]) -> int:
        """Arm many, one round trip per thousand and shard; how many ids are new. Raises as `add_schedule`."""
        collected: list[_Armed] = []
        for schedule in schedules:
            due = self._due(schedule)
            message = await self._through_middlewares(schedule)
            collected.append((due, schedule.schedule_id, self._value(message, schedule.schedule_id)))
        return await self._arm_all(collected)

    async def arm(self, timers: Iterable[Timer]) -> int:
        """Arm many that are encoded already, in the order given, one round trip per thousand and shard.

        Returns how many are new. The fast way to rebuild an empty Redis: give the nearest first.
        Middlewares do not see these.
        """
        return await self._arm_all(self._armed(timers))

    def timer(self, id: str, due: datetime, task: Callable_, *args: Any, task_id: str = "", **kwargs: Any) -> Timer:
        """A Timer for `arm`: `task(*args, **kwargs)` at `due`. Without a `task_id` the task's id will be `id`."""
        return Timer(id, due, self._broker.encode(task, *args, task_id=task_id, **kwargs))

    async def delete_schedule(self, schedule_id: str) -> bool:  # type: ignore[override]
        """Cancel one; whether it was still pending. Concurrent calls share a round trip. Raises RedisError."""
        return await self._broker.cancel_one(schedule_id)

    async def delete_schedules(self, ids: Iterable[str]) -> int:
        """Cancel many, one round trip per thousand and shard; how many were still pending. Raises RedisError."""
        return await self._broker.cancel(ids)

    async def _through_middlewares(self, schedule: ScheduledTask) -> TaskiqMessage:
        labels = {name: prepare_label(label) for name, label in schedule.labels.items()}
        message = TaskiqMessage(
            task_id=schedule.task_id or schedule.schedule_id,
            task_name=schedule.task_name,
            labels={name: text for name, (text, _) in labels.items()},
            labels_types={name: kind for name, (_, kind) in labels.items()},
            args=schedule.args,
            kwargs=schedule.kwargs,
        )
        return await through_middlewares(self._broker, message)

    def _armed(self, timers: Iterable[Timer]) -> Iterator[_Armed]:
        letters = {priority: priority[0].encode() for priority in self._broker.priorities}
        for id, due, message in timers:
            yield due, self._checked(id), letters[self._broker.priority_of(message.labels)] + message.message

    async def _arm_all(self, timers: Iterable[_Armed]) -> int:
        feeds = [Feed(partial(self._arm, shard)) for shard in self._broker.shards]
        try:
            for timer in timers:
                feed = feeds[self._broker.shard_of(timer[1])]
                feed.items.append(timer)
                if len(feed.items) == MOST_PER_CALL:
                    await feed.send()
            return sum([await feed.finish() for feed in feeds])
        finally:
            for feed in feeds:
                await feed.close()

    async def _arm(self, shard: Shard, timers: list[_Armed]) -> int:
        """One call. The clock is read here and not before: what passes between it and Redis' clock is lateness."""
        if self._clock is None:
            return await shard.arm(
                [(str((_aware(due) - _EPOCH) // _MICROSECOND), id, value) for due, id, value in timers]
            )
        now = _aware(self._clock())
        return await shard.arm([(f"+{max(0, (_aware(due) - now) // _MICROSECOND)}", id, v) for due, id, v in timers])

    async def _arm_each(self, shard: Shard, timers: list[_Armed]) -> list[bool]:
        await self._arm(shard, timers)
        return [True] * len(timers)

    def _value(self, message: TaskiqMessage, id: str) -> bytes:
        priority = self._broker.priority_of(message.labels)
        if message.task_id == self._checked(id):
            message = message.model_copy(update={"task_id": ""})
        return priority[0].encode() + self._broker.formatter.dumps(message).message

    @staticmethod
    def _due(schedule: ScheduledTask) -> datetime:
        if schedule.time is None:
            kind = "cron" if schedule.cron is not None else "interval"
            raise ScheduleUnsupported(
                f"{schedule.task_name}: TimerSource holds points in time, not {kind} schedules; "
                "put these into a LabelScheduleSource under one `taskiq scheduler`"
            )
        return schedule.time

    @staticmethod
    def _checked(id: str) -> str:
        if not id or id.startswith(DELAYED_PREFIX):
            raise ValueError(f"{id!r}: a timer's id is not empty and does not begin with {DELAYED_PREFIX!r}")
        return id


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
