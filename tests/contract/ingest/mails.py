"""Programs that send mails to an integration, by smtplib over real sockets."""

import asyncio
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import make_msgid
from typing import Any, TypeVar

from tocsin.ingest.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import (
    CreateIntegrationRequest,
    Integration,
    MailRules,
)
from tocsin_testkit import busy

from tests.store.ingest.support import Ingest, bearer, new_org

DOMAIN = "alerts.example.com"
T = TypeVar("T")


class Mails:
    """One integration with an address, and a program that sends mails to it."""

    def __init__(self, ingest: Ingest, port: int) -> None:
        self.ingest, self.port, self.org = ingest, port, new_org()
        self.address = self.name = ""

    async def integration(self, **rules: Any) -> str:
        wanted = Integration(display_name="mails")
        if rules:
            wanted.mail.CopyFrom(MailRules(**rules))
        request = CreateIntegrationRequest(integration=wanted)
        made = await self.ingest.integrations.CreateIntegration(request, metadata=bearer(self.org))
        self.address, self.name = made.mail_address, made.integration.name
        return made.key

    async def send(self, subject: str, text: str = "words", **headers: str) -> tuple[int, bytes]:
        """The answer to the whole mail."""
        content = written(subject, text, **headers)
        return await session(self.port, lambda smtp: deliver(smtp, self.address, content))

    async def starts_a_mail(self, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        """And sends nothing of it; the answer to DATA."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(host, 0))
        for command in ("HELO x", "MAIL FROM:<a@b>", f"RCPT TO:<{self.address}>", "DATA"):
            await reader.readline()
            writer.write(f"{command}\r\n".encode())
        return reader, writer, await reader.readline()

    async def alerts(self) -> list[Any]:
        listed = await self.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(self.org))
        return sorted(listed.alerts, key=lambda each: (each.dedup_key, each.create_time.ToNanoseconds()))


async def session(port: int, work: Callable[[smtplib.SMTP], T], host: str = "127.0.0.1") -> T:
    """What `work` answers, from an address of our own. In a thread, as smtplib blocks."""

    def run() -> T:
        with smtplib.SMTP("127.0.0.1", port, timeout=busy.within(20), source_address=(host, 0)) as smtp:
            return work(smtp)

    return await asyncio.to_thread(run)


def written(subject: str, text: str = "words", **headers: str) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"] = subject, "nagios@example.com"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in ({"Message-ID": make_msgid()} | named).items():
        message[name] = value
    message.set_content(text)
    return message.as_bytes()


def deliver(smtp: smtplib.SMTP, address: str, content: bytes, sender: str = "nagios@example.com") -> tuple[int, bytes]:
    smtp.ehlo_or_helo_if_needed()
    for code, answer in (smtp.mail(sender), smtp.rcpt(address)):
        if code != 250:
            return code, answer
    return smtp.data(content)
