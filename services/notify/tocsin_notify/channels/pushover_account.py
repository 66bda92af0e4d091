"""The operator's application at Pushover."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PushoverAccount:
    """An empty `token`: nothing is sent by Pushover."""

    token: str
    base_url: str = "https://api.pushover.net"
    retry_seconds: int = 60
    """Between two rings of one page. The API takes no less than 30."""
    expire_seconds: int = 3600
    """How long one page rings while it is not answered. The API takes no more than 10,800."""

    def __repr__(self) -> str:
        return f"PushoverAccount({self.base_url})"
