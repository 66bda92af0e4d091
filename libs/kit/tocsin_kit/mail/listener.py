"""What an SMTP listener is told by the settings of its service."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MailListener:
    """Where mails are taken, and how much of them."""

    listen: str
    """Host and port."""
    domain: str
    """What the server calls itself."""
    require_tls: bool = False
    max_bytes: int = 5 << 20
    """The most bytes of one mail."""
    max_connections: int = 100
    """At once; one host may have half of them. On an eighth of them a mail may be on its way."""
    command_seconds: float = 60.0
    """How long a client may be silent, and how long one mail may take to come."""
    session_seconds: float = 600.0
    """How long a connection may last."""
    shared: bool = False
    """Other processes listen on the same port."""
