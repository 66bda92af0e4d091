"""Alerts that Tocsin itself sends: their dedup keys."""

from typing import Final

HEARTBEAT: Final = "tocsin.heartbeat"
"""Of an integration's missing heartbeats."""
REFUSED: Final = "tocsin-refused-alerts"
"""Of an integration's alerts that were refused for good."""
THROTTLED: Final = "tocsin-throttled-alerts"
"""Of an integration's alerts that limits refused."""
OWN: Final = frozenset((HEARTBEAT, REFUSED, THROTTLED))
"""Each comes once, so that no threshold but one would ever be reached, and no dedup window is needed."""
