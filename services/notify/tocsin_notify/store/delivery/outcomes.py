"""The kinds of outbox rows that report page outcomes to escalation."""

from typing import Final

NOT_REACHED: Final = "page_not_reached"
"""A page is unreachable, failed or delayed: sent at once, because the next level may have to start."""
SENT: Final = "page_sent"
"""A page was sent: reported with the next round of the relay, or a later one while pages wait for slots. No level waits
for it, and a set costs less than single calls."""
KINDS: Final = (NOT_REACHED, SENT)
