"""For how long alerts join the open incident of their group."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Passed:
    """An open incident that an alert of its group does not join, because the last one joined it too long ago, at `joined`."""

    incident_id: UUID
    joined: datetime


def is_over(window: timedelta | None, joined: datetime | None, now: datetime | None) -> bool:
    """Whether an alert that comes now is too late for an incident that alerts joined, or opened, at `joined` for the last time.
    Without a window it never does. The end of the window is not part of it."""
    if window is None:
        return False
    assert now is not None
    assert joined is not None
    return now - joined >= window
