"""The options of a queue: what an operator chose, over what the service's settings say.

What was chosen is a row, and each replica reads it again every few seconds. Code that works with an option is called when one has
changed, so that nothing needs a restart.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError, Message
from tocsin.queue.v1.queue_options_pb2 import QueueOptions
from tocsin.queue.v1.queue_service_pb2 import Queue

from tocsin_kit.db import queues
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import FieldViolation, invalid_fields
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import Sweep
from tocsin_kit.rpc.masks import apply_paths, update_paths

_log = get_logger(__name__)

EVERY: Final = 4.0
_FIELDS: Final = tuple(field.name for field in QueueOptions.DESCRIPTOR.fields)


class LiveOptions:
    """The options of one queue that hold in this process."""

    def __init__(self, queue: str, defaults: QueueOptions) -> None:
        """`defaults`: by the settings. An option that is not set in them is none of this queue."""
        self.queue: Final = queue
        self.defaults: Final = defaults
        self.version = 0
        """Of the row that holds now; 0 while there is none."""
        self._now = defaults
        self._followers: list[Callable[[QueueOptions], None]] = []

    def follow(self, follower: Callable[[QueueOptions], None]) -> None:
        """Call it whenever the options have changed."""
        self._followers.append(follower)

    def take(self, chosen: QueueOptions, version: int) -> None:
        """These were chosen, as the row of this version says."""
        self.version = version
        now = merged(self.defaults, chosen)
        if now == self._now:
            return
        self._now = now
        _log.info("queue_options", queue=self.queue, options=str(now).replace("\n", " ").strip())
        for follower in self._followers:
            follower(now)

    async def refresh(self, db: Database) -> None:
        """Read the row again. Raises DATABASE_UNAVAILABLE: then what held goes on to hold."""
        async with db.autocommit() as tx:
            row = await queues.options(tx, self.queue)
        if row.version != self.version:
            self.take(read(row.options), row.version)

    def sweep(self, db: Database) -> Sweep:
        """A loop for the service to add on each replica."""

        async def refresh() -> None:
            await self.refresh(db)

        return Sweep(EVERY, refresh)


def read(stored: bytes) -> QueueOptions:
    """What a row holds. One that a newer version wrote in another form counts as empty: the defaults hold."""
    try:
        return QueueOptions.FromString(stored)
    except DecodeError:
        _log.error("queue_options_unreadable")
        return QueueOptions()


def merged(defaults: QueueOptions, chosen: QueueOptions) -> QueueOptions:
    """`chosen` over `defaults`, without what is none of the queue. Settings may have changed since; both together make sense."""
    whole = _over(defaults, chosen)
    if _length(whole.most_backoff) < _length(whole.backoff):
        whole.most_backoff.CopyFrom(whole.backoff)
    if whole.HasField("urgent_reserve"):
        whole.urgent_reserve = min(whole.urgent_reserve, whole.concurrency - 1)
    return whole


def changed(defaults: QueueOptions, chosen: QueueOptions, given: Queue, mask: FieldMask) -> QueueOptions:
    """What is chosen after an update. Raises INVALID_FIELD, UPDATE_MASK_INVALID."""
    after = QueueOptions()
    after.CopyFrom(chosen)
    paths = update_paths(mask, given, writable=("options",))
    names = [path.removeprefix("options.").partition(".")[0] for path in paths if path != "options"]
    if "options" in paths:
        names = [name for name in _FIELDS if mask.paths or _has(given.options, name)]
    apply_paths(after, given.options, names)
    _require(defaults, after)
    return after


def _require(defaults: QueueOptions, chosen: QueueOptions) -> None:
    offered = _offered(defaults)
    violations = [
        FieldViolation(f"queue.options.{name}", f"is no option of this queue; it has {', '.join(offered)}")
        for name in _FIELDS
        if _has(chosen, name) and name not in offered
    ]
    whole = _over(defaults, chosen)
    paced = chosen.HasField("most_backoff") or chosen.HasField("backoff")
    if paced and _length(whole.most_backoff) < _length(whole.backoff):
        violations.append(FieldViolation("queue.options.most_backoff", "must be at least `backoff`"))
    if chosen.HasField("urgent_reserve") and whole.urgent_reserve >= whole.concurrency:
        violations.append(FieldViolation("queue.options.urgent_reserve", "must be less than `concurrency`"))
    if violations:
        raise invalid_fields(violations)


def _offered(defaults: QueueOptions) -> tuple[str, ...]:
    return tuple(name for name in _FIELDS if _has(defaults, name))


def _over(defaults: QueueOptions, chosen: QueueOptions) -> QueueOptions:
    whole = QueueOptions()
    for name in _offered(defaults):
        apply_paths(whole, chosen if _has(chosen, name) else defaults, (name,))
    return whole


def _has(options: Message, name: str) -> bool:
    return options.HasField(name)


def _length(duration: Duration) -> timedelta:
    return duration.ToTimedelta()
