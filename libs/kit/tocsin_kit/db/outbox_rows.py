"""The rows of the outbox, and the results of their delivery."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message to deliver."""

    id: int
    """Grows along its ordering key: a receiver may drop a message whose id is not above the last one it accepted."""
    org_id: str
    ordering_key: str
    kind: str
    payload: bytes
    create_time: datetime
    attempts: int
    """This try included: 1 at first, and 0 for a row that was just committed and is delivered from memory."""
    refusals: int = 0
    """How often it was refused while it was sent alone."""
    retries: int = 0
    """How often the receiver asked for it later."""
    substituted: bool = False
    """Its payload is a substitute for one that was refused for good; there is no second substitute."""


@dataclass(frozen=True, slots=True)
class Done:
    """Accepted: the row is deleted."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not accepted now. Tried again after `after` seconds, or with growing, jittered pauses."""

    error: str
    after: float | None = None
    blocked: bool = False
    """The receiver lacks an earlier message of the ordering key: the key counts as blocked until this one is accepted."""


@dataclass(frozen=True, slots=True)
class Dead:
    """It will never be accepted: kept with its reason until redriven. Later rows of its key are delivered without it."""

    reason: str


RowAnswer = Done | Retry | Dead
"""What the receiver of a row answers."""


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
    """None while it is to be delivered."""
    blocked: bool
    """The receiver lacks an earlier message of the ordering key."""
    substituted: bool
    """The payload is a substitute."""
    substituted_by: int | None
    """The row that is sent in its place."""


@dataclass(frozen=True, slots=True)
class Behind:
    """The messages that wait for a message of their ordering key."""

    count: int
    since: datetime | None
