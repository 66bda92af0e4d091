"""The settings of an SMTP listener."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MailListener:
    """Where mails are accepted, and how many."""

    listen: str
    """Host and port."""
    domain: str
    """The name of the server."""
    require_tls: bool = False
    max_bytes: int = 5 << 20
    """The most bytes of one mail."""
    max_connections: int = 100
    """At once; one host may have half of them. At most an eighth of them may carry a mail at one time."""
    command_seconds: float = 60.0
    """How long a client may be silent, and how long one mail may take to arrive."""
    session_seconds: float = 600.0
    """How long a connection may last."""
    shared: bool = False
    """Other processes listen on the same port."""
