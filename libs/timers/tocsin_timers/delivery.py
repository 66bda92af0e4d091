"""What a worker takes from a stream, and how it ends."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ends. The three operands are those of `lua/settle.lua`."""

    verdict: Literal["done", "retry", "bury"]
    operands: tuple[str | bytes | int, str | bytes, str | bytes] = ("", "", "")


DONE: Final = Outcome("done")


@dataclass(slots=True, eq=False)
class Delivery:
    """One stream entry in this worker's hands."""

    shard: int
    priority: str
    entry: bytes
    """The id Redis gave the stream entry; it starts with the milliseconds at which the entry was added."""
    data: bytes | None
    """None: a foreign entry without a message in it."""
    timer: str
    """The id it was armed under; empty for what was sent without a delay, or with the `delay` label."""
    due_us: int | None
    """When it was due, in microseconds of Redis' clock. None: it was sent without a delay."""
    since: float
    """time.monotonic() before Redis was asked for it: the lease began then or later."""
    renewed: float = 0.0
    """time.monotonic() of the last renewal of the lease; 0.0: none yet."""
    running: bool = False
    """Started: its lease is renewed. What only waits is left to time out, so that an idle worker may have it."""
    outcome: Outcome | None = None
    """What a middleware decided; None: nothing, so it is done."""


current: ContextVar[Delivery | None] = ContextVar("tocsin_timers_delivery", default=None)
"""The delivery whose task is running here. None under a receiver that is not ours."""
