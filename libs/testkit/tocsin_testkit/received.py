"""What a person receives, whichever way it came."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Received:
    """One message at a contact address."""

    address: str
    """The e-mail address, or the webhook's path."""
    channel: str
    """`email` or `webhook`."""
    kind: str
    """`new_incident`, `escalation`, `urgency_raised`, `acknowledgment`, `resolution`, `test`, `verification`,
    `contact_changed`, `message` or `bundle`."""
    subject: str
    incident: str
    """`incidents/{uuid}`; empty for tests and codes."""
    level: int
    code: str
    """The six digits of a verification."""
    key: str
    """The same for every attempt of one notification."""
    at: float
    """`time.monotonic()` of its first bytes' arrival: of the request, or of MAIL before an e-mail."""
    planned_time: datetime | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def is_page(self) -> bool:
        """Whether it is meant to wake its receiver."""
        return self.kind in ("new_incident", "escalation")
