"""What a failed delivery says about the receiver and about the rows. Pure."""

import random
from enum import Enum
from typing import Final, NamedTuple

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.db.outbox_rows import OutboxRow, Retry
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_kit.loops import backoff

_Code = grpc.StatusCode

RETRY_BASE: Final = 0.1
RETRY_CAP: Final = 30.0
_REFUSAL_BASE: Final = 0.2
_REFUSAL_CAP: Final = 5.0
_CONFLICT_CAP: Final = 1.0
"""Another session held the message, which is no fault and mostly over within a moment."""
REFUSALS: Final = 4
"""Refusals of a row that was sent alone after which it is given up; with the pauses between them that takes 2 s or less."""
REFUSALS_UNPROVEN: Final = 8
"""The same while the receiver has accepted no other row since the first of them, so that its own fault may be the cause."""


class Verdict(Enum):
    """The cause of a failure."""

    AWAY = "away"
    """The receiver: no answer, or a version or a configuration that does not fit. Says nothing about the rows."""
    SLOW = "slow"
    """No answer in time, or overload: the receiver, or these rows in particular."""
    CONTENT = "content"
    """The message itself: the same answer would come every time."""
    FAULT = "fault"
    """The message, or a defect of the receiver."""
    CONFLICT = "conflict"
    """Another session held rows that the message needs."""


class Failure(NamedTuple):
    """A failed delivery, judged."""

    verdict: Verdict
    error: str
    """For people: the reason's name and the message."""
    after: float | None = None
    """Seconds the receiver asked for, if it did."""


_BY_CODE: Final = {
    _Code.UNAVAILABLE: Verdict.AWAY,
    _Code.CANCELLED: Verdict.AWAY,
    # A rotated key, a missing right, an older build: an operator must correct it, and the row is never the cause.
    _Code.UNAUTHENTICATED: Verdict.AWAY,
    _Code.PERMISSION_DENIED: Verdict.AWAY,
    _Code.UNIMPLEMENTED: Verdict.AWAY,
    _Code.DEADLINE_EXCEEDED: Verdict.SLOW,
    _Code.RESOURCE_EXHAUSTED: Verdict.SLOW,
    _Code.INVALID_ARGUMENT: Verdict.CONTENT,
    _Code.OUT_OF_RANGE: Verdict.CONTENT,
    _Code.ABORTED: Verdict.CONFLICT,
}


def judge(error: Exception) -> Failure:
    """The verdict on the error of a delivery."""
    if isinstance(error, grpc.aio.AioRpcError):
        slow = error.code() is _Code.DEADLINE_EXCEEDED
        failure = judge(from_rpc_error(error))
        return failure._replace(verdict=Verdict.SLOW) if slow else failure
    if isinstance(error, TocsinError):
        text = f"{error.reason_name}: {error.message}"
        if error.reason == ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE:
            return Failure(Verdict.CONTENT, text)
        code = error.code
        if isinstance(error.__cause__, grpc.aio.AioRpcError) and error.__cause__.code() is _Code.DEADLINE_EXCEEDED:
            code = _Code.DEADLINE_EXCEEDED  # the contract knows it as SERVICE_UNAVAILABLE
        return Failure(_BY_CODE.get(code, Verdict.FAULT), text, error.retry_after)
    if isinstance(error, TimeoutError):
        return Failure(Verdict.SLOW, "the delivery took too long")
    if isinstance(error, OSError):
        return Failure(Verdict.AWAY, f"{type(error).__name__}: {error}")
    return Failure(Verdict.FAULT, f"{type(error).__name__}: {error}")


def retry_pause(row: OutboxRow, answer: Retry) -> float:
    """Seconds until a row that the receiver postponed is tried again."""
    if answer.after is not None:
        return min(answer.after, RETRY_CAP)
    return backoff(row.retries + 1, base=RETRY_BASE, cap=RETRY_CAP)


def refusal_pause(row: OutboxRow, verdict: Verdict) -> float:
    """Seconds until a row that was refused alone is tried again. Not less than half of the step: its fault is known."""
    cap = _CONFLICT_CAP if verdict is Verdict.CONFLICT else _REFUSAL_CAP
    return min(cap, _REFUSAL_BASE * 2.0 ** min(row.refusals, 20)) * random.uniform(0.5, 1.0)


def is_final(row: OutboxRow, verdict: Verdict, *, accepts_others: bool, has_substitute: bool) -> bool:
    """Whether this refusal of a row that was sent alone was its last.

    A receiver with a defect refuses every row, and no row may be given up because of that. So a fault ends a row only if the
    receiver accepted another one after the first refusal and before the last try: rows accepted earlier may be from before the
    defect. A row with a substitute does not wait for that proof without end: the substitute takes its place, and the original is
    kept.
    """
    match verdict:
        case Verdict.CONTENT:
            return True
        case Verdict.FAULT:
            refusals = row.refusals + 1
            return refusals >= REFUSALS and (accepts_others or (has_substitute and refusals >= REFUSALS_UNPROVEN))
        case _:
            return False
