"""A real SMTP server that keeps what it gets."""

import asyncio
from email import message_from_bytes, policy
from typing import Any

from aiosmtpd.smtp import SMTP

from tocsin_testkit.arrival import last_bytes
from tocsin_testkit.inbox import Inbox
from tocsin_testkit.received import Received

KINDS = {
    "acknowledged": "acknowledgment",
    "resolved": "resolution",
    "test": "test",
    "security": "contact_changed",
    "message": "message",
    "digest": "digest",
}


class MailServer:
    """Listens on a free loopback port. `refuse` maps addresses to the SMTP answer they get instead of 250."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._server: asyncio.Server | None = None
        self.refuse: dict[str, str] = {}
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SMTP(self, enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        """aiosmtpd's hook for the command with which a mail begins."""
        envelope.arrived = last_bytes(server.transport)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        """aiosmtpd's hook for each recipient."""
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """aiosmtpd's hook for a whole message."""
        for address in envelope.rcpt_tos:
            await self._inbox.put(parse(address, envelope.content, envelope.arrived))
        return "250 taken"


def text_of(mail: Received) -> str:
    """The plain text of a mail that was received."""
    part = message_from_bytes(mail.body, policy=policy.default).get_body(("plain",))
    return str(part.get_content()) if part is not None else ""


def parse(address: str, content: bytes, arrived: float) -> Received:
    """What a mail says."""
    message = message_from_bytes(content, policy=policy.default)
    subject = str(message["Subject"])
    tag = subject[1 : subject.index("]")] if subject.startswith("[") else ""
    code = subject.split()[0] if subject[:6].isdigit() else ""
    level = int(subject.rpartition("(level ")[2].rstrip(")")) if "(level " in subject else 0
    part = message.get_body(("plain",))
    text = part.get_content() if part is not None else ""
    incident = next((word for word in text.split() if word.startswith("incidents/")), "")
    kind = KINDS.get(
        tag, "verification" if code else "escalation" if "Nobody has it in hand" in text else "new_incident"
    )
    return Received(
        address=address,
        channel="email",
        kind=kind,
        subject=subject,
        incident=incident,
        level=level,
        code=code,
        key=str(message["Message-ID"]),
        at=arrived,
        headers=tuple((name, str(value)) for name, value in message.items()),
        body=content,
    )
