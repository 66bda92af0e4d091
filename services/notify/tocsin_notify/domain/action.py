"""What a person may do who answers a page."""

from enum import StrEnum


class Action(StrEnum):
    """The words are those of links, buttons and `link_uses`."""

    ACKNOWLEDGE = "acknowledge"
    ESCALATE = "escalate"
    RESOLVE = "resolve"
    NOTE = "note"
