"""What health checks, dashboards and operators read about a queue."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """One queue at one instant, over all shards. Ages are seconds by Redis' clock, 0.0 when nothing is there."""

    waiting: int
    """Due or sent, in a stream, not taken by any worker."""
    active: int
    """In the hands of workers, not settled yet."""
    delayed: int
    """Timers and retries pending, overdue ones included."""
    overdue: int
    """Pending although due: none for longer than a few milliseconds unless no worker runs."""
    dead: int
    """In the dead-letter stream."""
    completed: int
    """Executed without an error since Redis' memory began."""
    failed: int
    """Attempts that raised or could not be read, since Redis' memory began."""
    forgotten: int
    """Dead letters that had to make room for newer ones, since Redis' memory began."""
    paused: bool
    oldest_waiting_seconds: float
    oldest_active_seconds: float
    oldest_overdue_seconds: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up. It is kept until it is redriven or discarded, or `most_dead` newer ones have died."""

    id: str
    """Its name in `redrive` and `discard`; sorts by the time of death within a shard."""
    died_at: datetime
    """By Redis' clock, UTC."""
    reason: str
    priority: str
    task_id: str
    """Empty when the message cannot be read."""
    task_name: str
    """Empty when the message cannot be read."""
    timer_id: str
    """The id it was armed under, if it was a timer."""
    data: bytes
    """The message as it was sent, to find out why it cannot be read."""
