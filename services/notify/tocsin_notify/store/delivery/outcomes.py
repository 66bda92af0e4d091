"""The kinds of outbox rows that tell escalation what became of pages."""

from typing import Final

NOT_REACHED: Final = "page_not_reached"
"""A page is unreachable, failed or delayed: told at once, because its level may be left for the next."""
SENT: Final = "page_sent"
"""A page was sent: told with the next round of the relay, while pages wait for slots with a later one. Nothing waits for it, and
a set costs less than each alone."""
KINDS: Final = (NOT_REACHED, SENT)
