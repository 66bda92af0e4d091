"""What the outbox hands over, and what may become of it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message to hand over."""

    id: int
    """Grows along its ordering key: a receiver may drop what is not above the last one it took."""
    org_id: str
    ordering_key: str
    kind: str
    payload: bytes
    create_time: datetime
    attempts: int
    """This try included; 1 at first."""


@dataclass(frozen=True, slots=True)
class Done:
    """Accepted: the row goes."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not accepted now. Tried again after `after` seconds, or with growing, jittered pauses."""

    error: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """Never to be accepted: kept with its reason until redriven. Later rows of its key go on without it."""

    reason: str


Outcome = Done | Retry | Dead


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A message that could not be handed over."""

    id: int
    org_id: str
    ordering_key: str
    kind: str
    payload: bytes
    create_time: datetime
    attempts: int
    reason: str
    dead_time: datetime
