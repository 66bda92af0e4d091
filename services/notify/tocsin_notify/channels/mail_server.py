"""Where mail is handed in, and how."""

from dataclasses import dataclass
from enum import StrEnum


class StartTls(StrEnum):
    """When to upgrade a plain connection."""

    OFF = "off"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in. An empty `host`: this installation sends no mail."""

    host: str
    port: int = 25
    username: str = ""
    password: str = ""
    sender: str = "tocsin@localhost"
    """An address, or a name with one: `Tocsin <tocsin@example.com>`."""
    starttls: StartTls = StartTls.AUTO
    implicit_tls: bool = False
    ca_file: str = ""

    def __repr__(self) -> str:
        return f"MailServer({self.host}:{self.port})"
