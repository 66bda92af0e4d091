"""A message of a user or a machine: when it may be sent, and its state."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from tocsin_notify.domain.page import Channel, State
from tocsin_notify.domain.wall_time import BadTime
from tocsin_notify.domain.words import Word

_PAST: Final = timedelta(minutes=1)
"""A caller's clock may be slow, and its call may have taken a moment."""
AHEAD: Final = timedelta(days=731)


GROUP: Final = Channel("group")
"""Used in place of a channel: the address is the name of a team or a schedule, and the message becomes one message for
each of its people. It is in no list of channels, so no release, not even of an older version, takes it for a message to
one receiver."""
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Stored(Word):
    """The state in the row; the words are those of the table."""

    SCHEDULED = "scheduled"
    RELEASED = "released"
    """It became a page."""
    CANCELLED = "cancelled"
    """It never became a page."""
    STOPPED = "stopped"
    """Cancelled after it had become a page; or a group message that became no messages in time."""


class MessageState(StrEnum):
    """The state that people are shown."""

    SCHEDULED = "scheduled"
    SENDING = "sending"
    SENT = "sent"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """A notification of the message: its state, the reason, and whether an attempt ever began."""

    state: State
    reason: str
    begun: bool


def state_of(stored: Stored, steps: Collection[Step]) -> MessageState:
    """The state of the message. A contact method that failed does not matter once another one carried the message."""
    if stored is Stored.SCHEDULED:
        return MessageState.SCHEDULED
    if stored is Stored.CANCELLED:
        return MessageState.CANCELLED
    states = {step.state for step in steps}
    if State.SENT in states:
        return MessageState.SENT
    if states & {State.PENDING, State.SENDING}:
        return MessageState.SENDING
    if stored is Stored.STOPPED:
        return MessageState.CANCELLED
    return MessageState.SKIPPED if State.CANCELLED in states else MessageState.FAILED


def in_time(stored: Stored, steps: Collection[Step]) -> bool:
    """Whether no part of a cancelled message was sent; `steps` are those after the cancel, which holds their rows.

    A message that failed before an attempt began was over before, so a cancel of it is never in time.
    """
    if stored is Stored.CANCELLED:
        return True
    return bool(steps) and all(step.state is State.CANCELLED and not step.begun for step in steps)


def state_of_group(stored: Stored, parts: Collection[Step]) -> MessageState:
    """The state of a group message; `parts` are the steps of all its receivers."""
    states = {part.state for part in parts}
    if stored is Stored.RELEASED and states & {State.PENDING, State.SENDING}:
        return MessageState.SENDING
    if stored is Stored.STOPPED and not parts:
        return MessageState.SKIPPED
    return state_of(stored, parts)


def pause_after(tries: int, chance: float) -> float:
    """Seconds until escalation is asked again who the receivers are; `chance`: 0 to 1."""
    return min(_LONGEST_PAUSE, _PAUSE * 2.0 ** min(tries - 1, 10)) * (0.5 + chance / 2)


def require_reachable_time(send_time: datetime, now: datetime) -> None:
    """Raises BadTime for a time that is over or too far ahead."""
    if send_time < now - _PAST:
        raise BadTime("", "lies in the past; without a time it is sent at once")
    if send_time > now + AHEAD:
        raise BadTime("", f"must lie within the next {AHEAD.days} days")
