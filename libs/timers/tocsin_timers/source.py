"""The Taskiq schedule source: timers by id."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, Self

from taskiq import ScheduledTask, ScheduleSource
from taskiq.labels import prepare_label
from taskiq.message import BrokerMessage, TaskiqMessage
from taskiq.utils import maybe_awaitable

from tocsin_timers.batching import MOST_PER_CALL, Batcher, Feed
from tocsin_timers.broker import Callable_, TimerBroker, through_middlewares
from tocsin_timers.encoded import Encoded
from tocsin_timers.errors import ScheduleUnsupported
from tocsin_timers.migration import MEMORY_SECONDS, Found, Migration, StockSchedules, migrate
from tocsin_timers.shard import DELAYED_PREFIX, Shard

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Clock = Callable[[], datetime]

_Armed = tuple[datetime, str, bytes]
"""due, id, priority's letter and message"""


class Timer(NamedTuple):
    """One timer for `TimerSource.arm`. `message` comes from `TimerBroker.encode` or an Encoder; its priority label counts.

    A message encoded with `task_id=""` gets `id` as its task id when it runs, and takes less memory until then.
    A `due` without a time zone is UTC.

    `shared`: of such timers whose messages are the same bytes, those that a promoter finds due together run as one task, with
    the id of one of them: for tasks that look for all that is due themselves. Until then each is moved and cancelled by
    itself. A priority whose name does not begin with a lower-case letter has none: each of its timers is a task.
    """

    id: str
    due: datetime
    message: BrokerMessage | Encoded
    shared: bool = False


class TimerSource(ScheduleSource):
    """Arms, moves and cancels timers: `task.kicker().with_schedule_id(id).schedule_by_time(source, due, ...)`.

    Arming an id again moves it. A fired timer is gone: its id is free. Every call is atomic for each id and may be
    repeated. The workers of the broker fire what is due; `taskiq scheduler` has nothing to do for this source.
    """

    def __init__(self, broker: TimerBroker, clock: Clock | None = None) -> None:
        """`clock`: whose now the due times are in. With one, what is sent is `due - clock()` and Redis adds its own
        time, so the clocks of hosts may differ by hours; without one, due times are in Redis' own time.
        """
        self._broker = broker
        self._clock = clock
        self._armers = [Batcher(partial(self._arm_each, shard)) for shard in broker.shards]
        self._stock: StockSchedules | None = None
        self._leave = timedelta(0)

    def with_migrate_from(self, source: ScheduleSource, *, leave: timedelta = timedelta(0)) -> Self:
        """Have `startup()` and `migrate()` take over what a ListRedisScheduleSource or RedisScheduleSource still holds.

        Stop that source's `taskiq scheduler` first: it sends what it has read, wherever the schedule went since. While
        it must still run, pass a `leave` of two of its update intervals (which are a minute unless it says otherwise):
        what is due sooner stays with it. What has been overdue for longer than `leave` moves: a running scheduler does not
        send it any more, and one that is started meanwhile, after it was down for longer, could send it as well. Stop it
        then, and migrate the rest without `leave`.
        Raises TypeError for other sources.
        """
        self._stock = StockSchedules(source)
        self._leave = leave
        return self

    async def startup(self) -> None:
        """Taskiq's hook: `migrate()`, if there is a source to migrate from. Raises as that."""
        if self._stock is not None:
            await self.migrate()

    async def migrate(self) -> Migration:
        """Take over what the source given to `with_migrate_from` holds, also what is past its time.

        Nothing fires twice when several processes migrate, or one is killed and another repeats it within a day. An id
        that is armed here already keeps its timer. A second call takes what old processes have added meanwhile.

        Raises MigrationIncomplete, after everything else has moved, for what is refused and stays where it is (cron and
        interval schedules, what cannot be read); RedisError of either server; RuntimeError without a source.
        """
        if self._stock is None:
            raise RuntimeError("no source to migrate from: call with_migrate_from first")
        return await migrate(self._stock, self._adopt, self._leave)

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
        return await self._arm_all(collected, self._clock)

    async def arm(self, timers: Iterable[Timer], *, clock: Clock | None = None) -> int:
        """Arm many that are encoded already, in the order given, one round trip per thousand and shard.

        `clock`: whose now these due times are in; None: the source's. Returns how many are new.
        The fast way to rebuild an empty Redis: give the nearest first. Middlewares do not see these.
        """
        return await self._arm_all(self._armed(timers), clock or self._clock)

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
        for id, due, message, shared in timers:
            letter = letters[self._broker.priority_of(message.labels)]
            yield due, self._checked(id), (letter.upper() if shared else letter) + message.message

    async def _arm_all(self, timers: Iterable[_Armed], clock: Clock | None) -> int:
        feeds = [Feed(partial(self._arm, shard, clock)) for shard in self._broker.shards]
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

    async def _adopt(self, schedules: list[Found], refused: dict[str, str]) -> dict[str, str]:
        """Offer schedules of another source to the shards; the answers by id, and in `refused` why some have none."""
        by_shard: dict[int, list[tuple[_Armed, str]]] = defaultdict(list)
        for found in schedules:
            id = found.schedule.schedule_id
            try:
                due = self._due(found.schedule)
                value = self._value(await self._through_middlewares(found.schedule), id)
            except ValueError as error:
                refused[id] = str(error)
                continue
            by_shard[self._broker.shard_of(id)].append(((due, id, value), found.digest))
        answers: dict[str, str] = {}
        for number, group in by_shard.items():
            timed = _timed([timer for timer, _ in group], self._clock)
            offers = [(*timer, digest) for timer, (_, digest) in zip(timed, group, strict=True)]
            flags = await self._broker.shards[number].adopt(offers, MEMORY_SECONDS)
            answers.update((id, flag) for (_, id, _, _), flag in zip(offers, flags, strict=True))
        return answers

    async def _arm(self, shard: Shard, clock: Clock | None, timers: list[_Armed]) -> int:
        return await shard.arm(_timed(timers, clock))

    async def _arm_each(self, shard: Shard, timers: list[_Armed]) -> list[bool]:
        await self._arm(shard, self._clock, timers)
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


def _timed(timers: list[_Armed], clock: Clock | None) -> list[tuple[str, str, bytes]]:
    """For one call. The clock is read here and not before: what passes between it and Redis' clock is lateness."""
    if clock is None:
        return [(str((_aware(due) - _EPOCH) // _MICROSECOND), id, value) for due, id, value in timers]
    now = _aware(clock())
    return [(f"+{max(0, (_aware(due) - now) // _MICROSECOND)}", id, value) for due, id, value in timers]
