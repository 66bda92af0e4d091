"""What a person may do who answers a page."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

SNOOZES: Final = tuple(timedelta(minutes=minutes) for minutes in (15, 30, 60, 240))
"""For how long a person can snooze an incident by a button."""


class Action(StrEnum):
    """The words are those of links, buttons and `link_uses`."""

    ACKNOWLEDGE = "acknowledge"
    SNOOZE = "snooze"
    ESCALATE = "escalate"
    RESOLVE = "resolve"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Asked:
    """An action with what it needs: a note its text, a snooze for how long."""

    action: Action
    text: str = ""
    snooze: timedelta = timedelta()

    def __str__(self) -> str:
        """The same for the same, so that a repeat is known."""
        return f"{self.action} {self.text}{minutes_of(self.snooze) if self.snooze else ''}"


def minutes_of(snooze: timedelta) -> int:
    """Whole minutes."""
    return snooze // timedelta(minutes=1)
