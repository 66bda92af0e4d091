"""What the process that runs Apprise answers. By itself: that process loads nothing else of the service."""

from enum import StrEnum


class Done(StrEnum):
    """How it ended."""

    YES = "yes"
    """Sent, or readable."""
    NO = "no"
    """Not sent. Apprise says no more than that, and more must not be told: whether a private address answers, for one."""
    UNREADABLE = "unreadable"
    PRIVATE = "private"
