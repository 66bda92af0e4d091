"""For how long alerts join the open incident of their group."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Passed:
    """An open incident that an alert of its group does not join, since too long ago another one did: at `joined`."""

    incident_id: UUID
    joined: datetime


def is_over(window: timedelta | None, joined: datetime | None, now: datetime | None) -> bool:
    """Whether an alert that comes now comes too late to join an incident that alerts joined, or opened, at `joined` for the last
    time. Without a window it never does. The end of the window is no more in it."""
    if window is None:
        return False
    assert now is not None
    assert joined is not None
    return now - joined >= window
