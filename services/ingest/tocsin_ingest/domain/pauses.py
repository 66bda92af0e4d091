"""Until when a transient alert opens no incident."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """Of one firing of an alert. `labels`: see `Message.labels`."""

    until: datetime
    labels: bytes | None = None
