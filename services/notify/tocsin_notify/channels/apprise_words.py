"""The answers of the process that runs Apprise. A module of its own: that process loads no other module of the service."""

from enum import StrEnum


class Done(StrEnum):
    """How it ended."""

    YES = "yes"
    """Sent, or readable."""
    NO = "no"
    """Not sent. Apprise gives no reason, and none may be shown: it could tell, for one, whether a private address
    answers."""
    UNREADABLE = "unreadable"
    PRIVATE = "private"
