"""Reading, redriving and discarding the messages that were given up."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from taskiq.abc.formatter import TaskiqFormatter

from tocsin_timers.errors import MessageUnreadable
from tocsin_timers.figures import DeadLetter
from tocsin_timers.retry import ATTEMPT
from tocsin_timers.shard import Shard


async def read(
    shards: Sequence[Shard], formatter: TaskiqFormatter, priorities: Sequence[str], limit: int, after: str
) -> list[DeadLetter]:
    """At most `limit` of them, shard by shard, oldest first, following the id `after`. Raises ValueError for no id."""
    first, position = _split(after) if after else (0, "")
    letters: list[DeadLetter] = []
    for shard in shards[first:]:
        for entry, fields in await shard.dead(position, limit - len(letters)):
            letters.append(_letter(shard.number, entry.decode(), fields, formatter, priorities))
        position = ""
        if len(letters) >= limit:
            break
    return letters


async def redrive(shards: Sequence[Shard], formatter: TaskiqFormatter, ids: Iterable[str]) -> int:
    """Send these again with all their attempts; how many were still there."""
    moved = 0
    for number, entries in _by_shard(ids).items():
        found = await shards[number].dead_by_id(entries)
        letters = [(entry.decode(), fields[b"p"].decode(), _fresh(fields, formatter)) for entry, fields in found]
        if letters:
            moved += await shards[number].redrive(letters)
    return moved


async def discard(shards: Sequence[Shard], ids: Iterable[str]) -> int:
    """Delete these; how many were still there."""
    return sum([await shards[number].discard(entries) for number, entries in _by_shard(ids).items()])


def _fresh(fields: dict[bytes, bytes], formatter: TaskiqFormatter) -> bytes:
    """The message with all its attempts before it. One that cannot be read here may be readable to a newer worker."""
    data = fields.get(b"d", b"")
    try:
        message = formatter.loads(data)
    except ValueError:
        return data
    timer = fields.get(b"i", b"").decode()
    message.labels.pop(ATTEMPT, None)
    if timer:
        message.task_id = message.task_id or timer
        message.labels.setdefault("schedule_id", timer)
    return formatter.dumps(message).message


def _letter(
    shard: int, entry: str, fields: dict[bytes, bytes], formatter: TaskiqFormatter, priorities: Sequence[str]
) -> DeadLetter:
    timer = fields.get(b"i", b"").decode()
    letter = fields.get(b"p", b"").decode()
    try:
        message = formatter.loads(fields.get(b"d", b""))
        task_id, task_name = message.task_id or timer, message.task_name
    except ValueError:
        task_id, task_name = "", ""
    return DeadLetter(
        id=f"{shard}:{entry}",
        died_at=datetime.fromtimestamp(int(entry.partition("-")[0]) / 1000, UTC),
        reason=fields.get(b"r", b"").decode(),
        priority=next((priority for priority in priorities if priority.startswith(letter)), priorities[-1]),
        task_id=task_id,
        task_name=task_name,
        timer_id=timer,
        data=fields.get(b"d", b""),
    )


def _by_shard(ids: Iterable[str]) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = defaultdict(list)
    for id in ids:
        shard, entry = _split(id)
        groups[shard].append(entry)
    return groups


def _split(id: str) -> tuple[int, str]:
    shard, _, entry = id.partition(":")
    milliseconds, _, serial = entry.partition("-")
    if not (shard.isdecimal() and milliseconds.isdecimal() and serial.isdecimal()):
        raise MessageUnreadable(f"{id!r} is not the id of a dead letter")
    return int(shard), entry
