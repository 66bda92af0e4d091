"""Taking over what a schedule source of Taskiq's own Redis package still holds.

A schedule is armed here first and then removed there, so at no moment is it in neither place. `lua/adopt.lua` remembers
what was armed, so a process that is killed between the two steps, and another one that migrates at the same time,
arm nothing twice.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis.asyncio import Redis
from taskiq import ScheduledTask, ScheduleSource

from tocsin_timers.errors import MigrationIncomplete

BATCH: Final = 500
MEMORY_SECONDS: Final = 86_400
"""How long the timers' Redis remembers what it took over. A process that was stopped for longer while it migrated
could arm a schedule again."""

REMOVE: Final = """
-- Remove schedules that are still as they were read.   KEYS (data, list) for each   ARGV (value, id) for each
local removed = 0
for i = 1, #ARGV / 2 do
  local data, list = KEYS[2 * i - 1], KEYS[2 * i]
  if redis.call('GET', data) == ARGV[2 * i - 1] then
    redis.call('DEL', data)
    if list ~= data then redis.call('LREM', list, 0, ARGV[2 * i]) end
    removed = removed + 1
  end
end
return removed
"""


@dataclass(slots=True)
class Migration:
    """What one run did. `kept`: ids that a timer armed here has already; the stock schedule gave way to it.
    `waiting`: those left to the stock scheduler because they are due too soon, or were just now. `refused`: the reason by id."""

    moved: int = 0
    kept: int = 0
    waiting: int = 0
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A schedule as the stock source keeps it: `raw` at `key`, and its id in the list at `index` if there is one."""

    key: str
    raw: bytes
    index: str
    schedule: ScheduledTask

    @property
    def digest(self) -> str:
        """Tells two schedules of one id apart."""
        return hashlib.sha256(self.raw).hexdigest()[:16]


class StockSchedules:
    """Everything in a `ListRedisScheduleSource` or a `RedisScheduleSource`, by its own connections and serializer.

    The keys are read directly: `get_schedules` of the former tells neither of future minutes nor of what it skips.
    """

    def __init__(self, source: ScheduleSource) -> None:
        """Raises TypeError for any other source."""
        try:
            from taskiq_redis import ListRedisScheduleSource, RedisScheduleSource
        except ImportError as error:
            raise TypeError("with_migrate_from reads sources of taskiq-redis, which is not installed") from error
        if isinstance(source, ListRedisScheduleSource):
            self._pool: Any = source._connection_pool
            self._serializer = source._serializer
            self._prefix = f"{source._prefix}:data:"
            self._index: Callable[[datetime], str] | None = source._get_time_key
        elif isinstance(source, RedisScheduleSource):
            self._pool = source.connection_pool
            self._serializer = source.serializer
            self._prefix = f"{source.prefix}:"
            self._index = None
        else:
            raise TypeError(
                f"cannot migrate from {type(source).__name__}: "
                "only ListRedisScheduleSource and RedisScheduleSource of taskiq-redis are supported"
            )

    async def batches(self, refused: dict[str, str]) -> AsyncIterator[list[Found]]:
        """All schedules, at most BATCH at a time; what cannot be read goes into `refused` with its reason."""
        redis: Redis
        async with Redis(connection_pool=self._pool) as redis:
            pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + "*"
            keys: list[str] = []
            async for key in redis.scan_iter(pattern, count=1000, _type="string"):
                keys.append(key.decode() if isinstance(key, bytes) else key)
                if len(keys) == BATCH:
                    yield await self._read(redis, keys, refused)
                    keys = []
            if keys:
                yield await self._read(redis, keys, refused)

    async def remove(self, schedules: Sequence[Found]) -> int:
        """Remove those that were not replaced since they were read; how many."""
        keys = [key for found in schedules for key in (found.key, found.index)]
        values = [value for found in schedules for value in (found.raw, found.schedule.schedule_id)]
        redis: Redis
        async with Redis(connection_pool=self._pool) as redis:
            return int(await redis.eval(REMOVE, len(keys), *keys, *values))

    async def _read(self, redis: Redis, keys: list[str], refused: dict[str, str]) -> list[Found]:
        found = []
        for key, value in zip(keys, await redis.mget(keys), strict=True):
            if value is None:
                continue  # removed since: fired, cancelled or migrated by another process
            raw = value.encode() if isinstance(value, str) else value
            id = key.removeprefix(self._prefix)
            try:
                loaded: Any = self._serializer.loadb(raw)
                schedule = ScheduledTask.model_validate(loaded)
            except Exception as error:
                # A serializer may raise anything. A RedisScheduleSource's keys may also belong to another program.
                refused[id] = f"unreadable: {type(error).__name__}: {error}"
                continue
            if schedule.schedule_id != id:
                refused[id] = f"belongs to another source: it holds the schedule {schedule.schedule_id!r}"
                continue
            index = self._index(schedule.time) if self._index is not None and schedule.time is not None else key
            found.append(Found(key, raw, index, schedule))
        return found


Offer = Callable[[list[Found], dict[str, str]], Awaitable[dict[str, str]]]
"""Arms schedules; the answer of `lua/adopt.lua` by id. What it refuses, it adds to the reasons."""


async def migrate(stock: StockSchedules, offer: Offer, leave: timedelta) -> Migration:
    """Arm everything and remove it from `stock`, except what its running scheduler will send or is about to.

    That is what is due at most `leave` from now, or overdue by at most that, by this host's clock; with a `leave` of 0, nothing.

    Raises MigrationIncomplete, when everything else has moved, if some schedules were refused; they stay where they are.
    Raises RedisError of either server; what had not moved is still in `stock`. Repeatable.
    """
    done = Migration()
    async for batch in stock.batches(done.refused):
        movable = []
        for found in batch:
            if _is_left(found.schedule.time, leave):
                done.waiting += 1
            else:
                movable.append(found)
        answers = await offer(movable, done.refused)
        taken = [found for found in movable if found.schedule.schedule_id in answers]
        if taken:
            await stock.remove(taken)
        flags = list(answers.values())
        done.moved += flags.count("1")
        done.kept += flags.count("k")
    if done.refused:
        raise MigrationIncomplete(done.moved, done.refused)
    return done


def _is_left(due: datetime | None, leave: timedelta) -> bool:
    """Whether the stock scheduler has it, or reads it in time.

    It never sends what has been overdue for longer, so nobody would: a ListRedisScheduleSource whose prefix contains a colon, or
    with `skip_past_schedules`, reads the list of a minute in that minute only, and a send that failed is not repeated.
    """
    if due is None or leave <= timedelta(0):
        return False
    aware = due if due.tzinfo is not None else due.replace(tzinfo=UTC)
    return abs(aware - datetime.now(UTC)) < leave
