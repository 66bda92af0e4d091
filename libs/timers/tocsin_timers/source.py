"""The Taskiq schedule source: timers by id."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from taskiq import ScheduledTask, ScheduleSource
from taskiq.labels import prepare_label
from taskiq.message import BrokerMessage, TaskiqMessage
from taskiq.utils import maybe_awaitable

from tocsin_timers.broker import Callable_, TimerBroker, through_middlewares
from tocsin_timers.errors import ScheduleUnsupported
from tocsin_timers.shard import DELAYED_PREFIX

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer for `TimerSource.arm`. `message` comes from `TimerBroker.encode`; its priority label counts.

    A message encoded with `task_id=""` gets `id` as its task id when it runs, and takes less memory until then.
    A `due` without a time zone is UTC.
    """

    id: str
    due: datetime
    message: BrokerMessage


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
        value = self._value(message, schedule.schedule_id)
        await self._broker.arm_one(schedule.schedule_id, self._moment(due, self._now()), value)
        for middleware in reversed(self._broker.middlewares):
            await maybe_awaitable(middleware.post_send(message))

    async def add_schedules(self, schedules: Iterable[ScheduledTask]) -> int:
        """Arm many, one round trip per thousand and shard; how many ids are new. Raises as `add_schedule`."""
        now = self._now()
        groups: dict[int, list[tuple[str, str, bytes]]] = defaultdict(list)
        for schedule in schedules:
            id = schedule.schedule_id
            moment = self._moment(self._due(schedule), now)
            value = self._value(await self._through_middlewares(schedule), id)
            groups[self._broker.shard_of(id)].append((moment, id, value))
        return sum([await self._broker.arm(shard, timers) for shard, timers in groups.items()])

    async def arm(self, timers: Iterable[Timer]) -> int:
        """Arm many that are encoded already, in the order given, one round trip per thousand and shard.

        Returns how many are new. The fast way to rebuild an empty Redis: give the nearest first.
        Middlewares do not see these.
        """
        now = self._now()
        broker = self._broker
        letters = {priority: priority[0].encode() for priority in broker.priorities}
        groups: list[list[tuple[str, str, bytes]]] = [[] for _ in broker.shards]
        for timer in timers:
            self._check(timer.id)
            value = letters[broker.priority_of(timer.message.labels)] + timer.message.message
            groups[broker.shard_of(timer.id)].append((self._moment(timer.due, now), timer.id, value))
        return sum([await broker.arm(shard, group) for shard, group in enumerate(groups)])

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

    def _value(self, message: TaskiqMessage, id: str) -> bytes:
        self._check(id)
        priority = self._broker.priority_of(message.labels)
        if message.task_id == id:
            message = message.model_copy(update={"task_id": ""})
        return priority[0].encode() + self._broker.formatter.dumps(message).message

    def _now(self) -> datetime | None:
        return None if self._clock is None else _aware(self._clock())

    @staticmethod
    def _moment(due: datetime, now: datetime | None) -> str:
        if now is None:
            return str((_aware(due) - _EPOCH) // _MICROSECOND)
        return f"+{max(0, (_aware(due) - now) // _MICROSECOND)}"

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
    def _check(id: str) -> None:
        if not id or id.startswith(DELAYED_PREFIX):
            raise ValueError(f"{id!r}: a timer's id is not empty and does not begin with {DELAYED_PREFIX!r}")


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
