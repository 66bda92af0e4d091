"""What a person may do who answers a page."""

from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """The words are those of links, buttons and `link_uses`."""

    ACKNOWLEDGE = "acknowledge"
    ESCALATE = "escalate"
    RESOLVE = "resolve"
    NOTE = "note"

    @property
    def done(self) -> str:
        """What the person is told once it was done."""
        return _DONE[self]


_DONE: Final = {
    Action.ACKNOWLEDGE: "Acknowledged.",
    Action.ESCALATE: "The next level is paged.",
    Action.RESOLVE: "Resolved.",
    Action.NOTE: "Noted.",
}
