"""Recent events of a queue's tasks: the newest completed and failed ones, a stream for watchers, rates.

None of it is the record, and none of it costs a statement: work notes events in memory, and a loop of each replica sends them to
Redis twice a second, where every replica reads them. What is kept is bounded: by number in memory and in Redis, in Redis by time
too. Without Redis, each replica has its own part only.

Taskiq's result backends are no place for it: they keep one result for each task of the broker, and most tasks here are rows that
are handled in batches and never were a task of the broker.
"""

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from google.protobuf.message import DecodeError
from tocsin.queue.v1 import task_pb2 as pb

from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop
from tocsin_kit.rpc.timestamps import set_time
from tocsin_kit.time_slices import CountSlice

_log = get_logger(__name__)

EVERY: Final = 0.5
KEPT: Final = 500
"""Changes of a stream for which nothing else was chosen, in Redis and in memory."""
MOST_MINUTES: Final = 60
_MOST_WAITING: Final = 20_000
"""Changes between two sendings: of more the oldest are left out of the streams and of the counts."""
_IN_A_SLICE: Final = 32
"""Changes of which the event loop looks at so many in one run: thousands come at once, beside calls that take many runs."""
_MOST_SENT: Final = 250
"""Of each stream in one sending."""
_SECONDS_KEPT: Final = 3600 * 2
_OTHERS: Final = "others"
WATCHED: Final = "watched"
WATCHED_SECONDS: Final = 120
"""For so long after a watcher's look the queue counts as watched, so that one that comes back has missed nothing."""
_CLASS: Final = math.log(1.2)
STREAMS: Final = ("completed", "failed", _OTHERS)
_WORDS: Final = {
    pb.TASK_CHANGE_KIND_ADDED: "added",
    pb.TASK_CHANGE_KIND_COMPLETED: "completed",
    pb.TASK_CHANGE_KIND_FAILED: "failed",
    pb.TASK_CHANGE_KIND_STALLED: "stalled",
    pb.TASK_CHANGE_KIND_RETRIED: "retried",
    pb.TASK_CHANGE_KIND_DEAD: "dead",
}
_STREAM_OF: Final = {
    pb.TASK_CHANGE_KIND_COMPLETED: "completed",
    pb.TASK_CHANGE_KIND_FAILED: "failed",
    pb.TASK_CHANGE_KIND_RETRIED: "failed",
    pb.TASK_CHANGE_KIND_DEAD: "failed",
}
_STATE_OF: Final = {
    pb.TASK_CHANGE_KIND_ADDED: pb.TASK_STATE_DELAYED,
    pb.TASK_CHANGE_KIND_ACTIVE: pb.TASK_STATE_ACTIVE,
    pb.TASK_CHANGE_KIND_COMPLETED: pb.TASK_STATE_COMPLETED,
    pb.TASK_CHANGE_KIND_STALLED: pb.TASK_STATE_ACTIVE,
}
LEFT_OUT: Final = pb.TaskChange()
"""Stands in a stream for changes that were too many to be sent."""
# KEYS: the streams, then a hash for each minute. ARGV: the seconds kept; for each stream the number kept, the number of changes
# and these; for each hash the number of pairs and these.
_SEND: Final = f"""
local at = 2
for stream = 1, {len(STREAMS)} do
  local count = tonumber(ARGV[at + 1])
  for i = at + 2, at + 1 + count do
    redis.call('XADD', KEYS[stream], 'MAXLEN', ARGV[at], '*', 'c', ARGV[i])
  end
  if count > 0 then redis.call('EXPIRE', KEYS[stream], ARGV[1]) end
  at = at + count + 2
end
for key = {len(STREAMS)} + 1, #KEYS do
  local count = tonumber(ARGV[at])
  for i = at + 1, at + 2 * count, 2 do redis.call('HINCRBY', KEYS[key], ARGV[i], ARGV[i + 1]) end
  redis.call('EXPIRE', KEYS[key], ARGV[1])
  at = at + 2 * count + 1
end
"""


class Redis(Protocol):
    """The one command that is used. Raises subclasses of `errors` (see `Journal`) when Redis is away."""

    def execute_command(self, *args: Any) -> Awaitable[Any]:
        """Sends a command and returns its answer."""
        ...


class Noted(NamedTuple):
    """What happened to a task. Texts may be empty; `seconds` and `late` (seconds) are None where they are not known."""

    kind: "pb.TaskChangeKind.ValueType"
    task: str
    """The kind of the task, as in its name."""
    id: UUID
    org_id: str
    time: datetime
    summary: str = ""
    about: str = ""
    user: str = ""
    attempts: int = 0
    error: str = ""
    seconds: float | None = None
    late: float | None = None
    due_time: datetime | None = None


class Notes(Protocol):
    """Takes notes without waiting."""

    def note(self, noted: Noted) -> None:
        """It happened, and is committed."""
        ...


class NoNotes:
    """Takes notes and forgets them."""

    def note(self, noted: Noted) -> None:
        """See `Notes`."""


NO_NOTES: Final[Notes] = NoNotes()


def note_all(notes: Notes, noted: Iterable[Noted]) -> None:
    """All of this happened, and is committed."""
    for each in noted:
        notes.note(each)


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened in one minute. `counts`: by word (`completed`), and of classes of lateness (`l7`) and duration (`d7`)."""

    start_time: datetime
    counts: Mapping[str, int]


class Journal:
    """The journal of one queue. `errors`: what the client raises when Redis is away."""

    def __init__(self, queue: str, redis: Redis, errors: tuple[type[Exception], ...]) -> None:
        self._queue = queue
        self._redis = redis
        self._errors = errors
        self._prefix = f"{{tocsin-journal:{queue}}}:"  # one hash tag, because the script uses all keys
        self._waiting: deque[Noted] = deque(maxlen=_MOST_WAITING)
        self._kept = dict.fromkeys(STREAMS, KEPT)
        self._own: dict[str, deque[tuple[int, pb.TaskChange]]] = {name: deque(maxlen=KEPT) for name in STREAMS}
        self._serial = 0
        self._minutes: dict[int, Counter[str]] = {}
        self._shared = True
        self._unsent = False

    def note(self, noted: Noted) -> None:
        """See `Notes`. For hot paths: it is kept for the loop, and nothing else is done."""
        self._waiting.append(noted)

    def keep(self, completed: int, failed: int) -> None:
        """So many of the newest from now on. In Redis older ones go when the next one comes."""
        for name, kept in (("completed", completed), ("failed", failed)):
            self._kept[name] = kept
            self._own[name] = deque(self._own[name], maxlen=kept)

    async def run(self, stop: asyncio.Event) -> None:
        """Send what was noted, until stopped and once more."""
        while not await wait_or_stop(stop, EVERY):
            await self.send()
        await self.send()

    async def send(self) -> None:
        """Once. Changes that Redis does not accept stay with this replica."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not taken:
            return
        sent: dict[str, list[bytes]] = {name: [] for name in STREAMS}
        newest: dict[str, deque[Noted]] = {name: deque(maxlen=_MOST_SENT) for name in STREAMS}
        minutes: defaultdict[int, Counter[str]] = defaultdict(Counter)
        time_slice = CountSlice(_IN_A_SLICE)
        for noted in taken:
            await time_slice.yield_if_over()
            newest[_STREAM_OF.get(noted.kind, _OTHERS)].append(noted)
            for word in _counted(noted):
                minutes[_minute(noted.time)][word] += 1
        # Added and begun tasks are for watchers only, and mostly there is none.
        watched = await self.ask("EXISTS", self.key(WATCHED)) != 0
        left_out = len(taken) == _MOST_WAITING or sum(map(len, newest.values())) < len(taken) or self._unsent
        if not watched:
            newest[_OTHERS].clear()
        for name, notes in newest.items():
            for noted in notes:
                await time_slice.yield_if_over()
                change = self._change(noted)
                self._serial += 1
                self._own[name].append((self._serial, change))
                sent[name].append(change.SerializeToString())
        if left_out and watched:
            self._serial += 1
            self._own[_OTHERS].append((self._serial, LEFT_OUT))
            sent[_OTHERS].append(LEFT_OUT.SerializeToString())
        for minute, counts in minutes.items():
            self._minutes.setdefault(minute, Counter()).update(counts)
        for old in sorted(self._minutes)[:-MOST_MINUTES]:
            del self._minutes[old]
        keys = [*map(self.key, STREAMS), *(self.key(str(minute)) for minute in minutes)]
        arguments: list[bytes | str | int] = [_SECONDS_KEPT]
        for name in STREAMS:
            arguments += [self.kept(name), len(sent[name]), *sent[name]]
        for counts in minutes.values():
            arguments += [len(counts), *(part for pair in counts.items() for part in pair)]
        self._unsent = await self.ask("EVAL", _SEND, len(keys), *keys, *arguments) is None

    async def newest(self, *, failed: bool, before: str = "") -> tuple[list[tuple[str, pb.TaskChange]], bool]:
        """The newest completed or failed tasks with their places, newest first; and whether they are this replica's only.
        `before`: behind this place of an earlier answer."""
        name = "failed" if failed else "completed"
        kept = self._kept[name]
        rows: Any = ()
        if kept:
            rows = await self.ask("XREVRANGE", self.key(name), "+", "-", "COUNT", kept)
        partial = rows is None
        own = [(f"{serial}-0", change) for serial, change in reversed(self._own[name])]
        found = own if partial else list(read(rows))
        return [each for each in found if not before or _place(each[0]) < _place(before)], partial

    async def last_of(self, name: str) -> pb.Task | None:
        """The task of this name as it was kept last, if it is one of the newest completed and failed ones."""
        kept = [*(await self.newest(failed=False))[0], *(await self.newest(failed=True))[0]]
        found = [change.task for _, change in kept if change.task.name == name]
        return max(found, key=lambda task: task.finish_time.ToNanoseconds(), default=None)

    async def minutes(self, now: datetime, count: int) -> tuple[list[Minute], bool]:
        """The last minutes, oldest first; and whether they are this replica's only."""
        last, found, shared = _minute(now), [], True
        for minute in range(last - count + 1, last + 1):
            counts: Mapping[str, int] | None = None
            if shared:
                flat = await self.ask("HGETALL", self.key(str(minute)))
                shared = flat is not None
                counts = None if flat is None else _pairs(flat)
            if counts is None:
                counts = self._minutes.get(minute, Counter())
            found.append(Minute(datetime.fromtimestamp(minute * 60, UTC), counts))
        if not shared:
            found = [Minute(each.start_time, self._minutes.get(_minute(each.start_time), Counter())) for each in found]
        return found, not shared

    def own_since(self, serial: int) -> tuple[list[pb.TaskChange], int]:
        """What this replica noted after a serial number, and the newest number."""
        fresh = sorted(
            (entry for name in STREAMS for entry in self._own[name] if entry[0] > serial), key=lambda entry: entry[0]
        )
        return [change for _, change in fresh], self._serial

    def kept(self, name: str) -> int:
        """How many changes of a stream Redis holds, at least."""
        return max(self._kept[name], KEPT)

    def _change(self, noted: Noted) -> pb.TaskChange:
        change = pb.TaskChange(kind=noted.kind)
        set_time(change.time, noted.time)
        task = change.task
        task.name = f"queues/{self._queue}/tasks/{noted.task}.{noted.id}"
        task.org_id, task.summary, task.about, task.user = noted.org_id, noted.summary, noted.about, noted.user
        task.attempts, task.error = noted.attempts, noted.error[:1024]
        task.state = _STATE_OF.get(noted.kind, pb.TASK_STATE_FAILED)
        if noted.kind in _STREAM_OF:
            set_time(task.finish_time, noted.time)
        if noted.due_time is not None:
            set_time(task.due_time, noted.due_time)
        if noted.seconds is not None:
            task.duration.FromTimedelta(timedelta(seconds=noted.seconds))
        if noted.late is not None:
            task.lateness.FromTimedelta(timedelta(seconds=noted.late))
        return change

    def key(self, name: str) -> str:
        """In Redis."""
        return self._prefix + name

    async def ask(self, *command: Any) -> Any:
        """The answer of Redis, None while it is away."""
        try:
            answer = await self._redis.execute_command(*command)
        except self._errors as error:
            if self._shared:
                _log.warning("journal_apart", queue=self._queue, error=repr(error)[:200])
            self._shared = False
            return None
        self._shared = True
        return () if answer is None else answer


def spread(minutes: Iterable[Minute], letter: str) -> tuple[int, Sequence[timedelta]]:
    """How many values there are, and p50, p90, p99 and the highest of those classes that begin with `letter`."""
    counts: Counter[int] = Counter()
    for minute in minutes:
        counts.update({int(key[1:]): n for key, n in minute.counts.items() if key[0] == letter and key[1:].isdecimal()})
    total = sum(counts.values())
    if not total:
        return 0, ()
    return total, [_quantile(counts, total, part) for part in (0.5, 0.9, 0.99, 1.0)]


def _quantile(counts: Counter[int], total: int, part: float) -> timedelta:
    below = 0
    for number in sorted(counts):
        below += counts[number]
        if below >= total * part:
            return timedelta(milliseconds=math.exp(number * _CLASS))
    return timedelta(milliseconds=math.exp(max(counts) * _CLASS))


def _counted(noted: Noted) -> list[str]:
    word = _WORDS.get(noted.kind)
    counted = [] if word is None else [word]
    if noted.late is not None:
        counted.append(f"l{_class(noted.late)}")
    if noted.seconds is not None:
        counted.append(f"d{_class(noted.seconds)}")
    return counted


def _class(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds * 1000, 1.0)) / _CLASS))


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // 60)


def read(rows: Iterable[Any]) -> Iterable[tuple[str, pb.TaskChange]]:
    """Entries that can be read: one of a newer version may hold what is not known here."""
    for id, fields in rows:
        values = list(fields.values()) if isinstance(fields, dict) else fields[1::2]
        try:
            yield text(id), pb.TaskChange.FromString(values[0])
        except (DecodeError, IndexError, TypeError):
            _log.warning("journal_entry_unreadable", entry=text(id))


def _pairs(flat: Any) -> dict[str, int]:
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    return {text(key): int(value) for key, value in pairs}


def text(value: bytes | str) -> str:
    """As Redis clients give it."""
    return value.decode() if isinstance(value, bytes) else value


def _place(id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in id.split("-") if part.isdecimal())
