"""What a person who answers a page may do."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, Self

SNOOZES: Final = tuple(timedelta(minutes=minutes) for minutes in (15, 30, 60, 240))
"""For how long a person can snooze an incident by a button."""
LONGEST_NOTE: Final = 4096
"""Characters: what escalation takes (`AddNoteRequest.text`)."""


class Action(StrEnum):
    """The words are those of links, buttons and `link_uses`."""

    ACKNOWLEDGE = "acknowledge"
    SNOOZE = "snooze"
    ESCALATE = "escalate"
    RESOLVE = "resolve"
    NOTE = "note"


WORDS: Final = {
    "a": Action.ACKNOWLEDGE,
    "ack": Action.ACKNOWLEDGE,
    "acknowledge": Action.ACKNOWLEDGE,
    "e": Action.ESCALATE,
    "esc": Action.ESCALATE,
    "escalate": Action.ESCALATE,
    "r": Action.RESOLVE,
    "resolve": Action.RESOLVE,
    "c": Action.RESOLVE,
    "close": Action.RESOLVE,
}
"""The words of a person who answers by a text message or a mail."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts, and on what. `user` and `incident` are resource names."""

    org_id: str
    user: str
    incident: str


@dataclass(frozen=True, slots=True)
class Asked:
    """An action with what it needs: a note its text, a snooze for how long."""

    action: Action
    text: str = ""
    snooze: timedelta = timedelta()

    @classmethod
    def note(cls, text: str) -> Self:
        """A note with this text. A longer one is cut, and ends with an ellipsis. Empty if nothing is left of it."""
        said = text.replace("\r\n", "\n").replace("\0", "").strip()
        return cls(Action.NOTE, said if len(said) <= LONGEST_NOTE else said[: LONGEST_NOTE - 1] + "…")

    def __str__(self) -> str:
        """Equal for equal actions, so that a repeat is recognised."""
        return f"{self.action} {self.text}{minutes_of(self.snooze) if self.snooze else ''}"


def minutes_of(snooze: timedelta) -> int:
    """Whole minutes."""
    return snooze // timedelta(minutes=1)
