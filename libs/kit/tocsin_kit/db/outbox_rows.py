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
    refusals: int = 0
    """How often it was refused while it travelled alone."""
    retries: int = 0
    """How often the receiver asked for it later."""
    substituted: bool = False
    """Its payload is a substitute for one that was refused for good; there is no second substitute."""


@dataclass(frozen=True, slots=True)
class Done:
    """Accepted: the row goes."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not accepted now. Tried again after `after` seconds, or with growing, jittered pauses."""

    error: str
    after: float | None = None
    blocked: bool = False
    """The receiver lacks an earlier message of the ordering key: the key counts as blocked until this one is accepted."""


@dataclass(frozen=True, slots=True)
class Dead:
    """Never to be accepted: kept with its reason until redriven. Later rows of its key go on without it."""

    reason: str


Outcome = Done | Retry | Dead


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A message as it is kept, for an operator."""

    id: int
    org_id: str
    ordering_key: str
    kind: str
    payload: bytes
    """Empty in a list: `payload_bytes` says how long it is."""
    payload_bytes: int
    create_time: datetime
    due_time: datetime
    attempts: int
    reason: str
    """The newest error."""
    dead_time: datetime | None
    """None while it is on its way."""
    blocked: bool
    """The receiver lacks an earlier message of the ordering key."""
    substituted: bool
    """The payload is a substitute."""
    substituted_by: int | None
    """The row that goes in its place."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What waits behind a message in its ordering key."""

    count: int
    since: datetime | None
