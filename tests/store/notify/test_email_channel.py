"""The e-mail channel against a real SMTP server: what each answer means, sessions, logins, TLS."""

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import pytest
import uvloop
from aiosmtpd.smtp import SMTP, AuthResult
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL
from tocsin_notify.channels import email as email_module
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.email import EmailChannel
from tocsin_notify.channels.mail_server import MailServer, StartTls
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind

from tests.certificates import Certificates, make_certificates
from tests.store.notify.raw import Line, listening, take_mails
from tests.store.notify.support import ALLOWED

PATIENT = 60.0
"""Seconds for an attempt that is to get an answer, however slow the machine."""


class Server:
    """An SMTP server that answers what it is told to."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.mails: list[bytes] = []
        self.sessions: set[object] = set()
        self.rcpt = self.data = self.mail_from = ""
        self.hang = False
        self.logins: list[tuple[bytes, bytes]] = []
        self.senders: list[str] = []

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen. `tls`: from the first byte."""
        loop = asyncio.get_running_loop()

        def make() -> SMTP:
            protocol = SMTP(self, loop=loop, hostname="test", authenticator=self._authenticate, **self._options)
            self.sessions.add(protocol)
            return protocol

        self._server = await loop.create_server(make, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.close()

    def drop_everybody(self) -> None:
        for protocol in self.sessions:
            transport = protocol.transport  # type: ignore[attr-defined]
            if transport is not None:
                transport.abort()

    def _authenticate(self, *arguments: Any) -> AuthResult:
        given = arguments[-1]
        self.logins.append((given.login, given.password))
        return AuthResult(success=given.password == b"right", handled=False)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        envelope.mail_from = address
        self.senders.append(address)
        return self.mail_from or "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.hang:
            await asyncio.Event().wait()
        envelope.rcpt_tos.append(address)
        return self.rcpt or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope.content)
        return self.data or "250 2.0.0 queued as 4711"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    made.stop()


def delivery(title: str = "Disk full", incident: str = "incidents/1") -> Delivery:
    return Delivery(
        key=f"{uuid.uuid4()}-1",
        notification=uuid.uuid4(),
        org_id="acme",
        kind=Kind.NEW_INCIDENT,
        job=pb.NotificationJob(
            page="pages/1", user="users/ana", incident=incident, title=title, level=1, severity=SEVERITY_CRITICAL
        ),
        target=Target(Channel.EMAIL, "ana@example.com"),
        attempt=1,
        start_time=datetime(2026, 1, 2, tzinfo=UTC),
    )


async def send(server: MailServer, *, timeout: float = PATIENT) -> Outcome:
    channel = EmailChannel(server, timeout=timeout)
    try:
        return await channel.send(delivery(), ALLOWED)
    finally:
        await channel.close()


def plain(server: Server, **fields: Any) -> MailServer:
    return MailServer("127.0.0.1", server.port, sender="tocsin@example.org", **fields)


@pytest.mark.parametrize(
    ("stage", "answer", "expected"),
    [
        ("data", "", Sent),
        ("rcpt", "450 4.2.0 greylisted", Retryable),
        ("rcpt", "550 5.1.1 no such user", Permanent),
        ("rcpt", "552 mailbox full", Permanent),
        ("mail_from", "451 try later", Retryable),
        ("mail_from", "553 sender refused", Permanent),
        ("mail_from", "530 5.7.0 authentication required", Retryable),
        ("data", "452 out of space", Retryable),
        ("data", "554 5.6.0 looks like spam", Permanent),
    ],
)
async def test_what_an_answer_means(server: Server, stage: str, answer: str, expected: type[Outcome]) -> None:
    setattr(server, stage, answer)
    outcome = await send(plain(server))
    assert isinstance(outcome, expected), outcome
    if isinstance(outcome, Sent):
        assert outcome.provider_id == "2.0.0 queued as 4711"
    else:
        assert outcome.reason.startswith((answer[:3], "the mail server does not accept our login: 530"))


async def test_the_mail_threads_by_incident_and_is_the_same_for_every_attempt(server: Server) -> None:
    channel = EmailChannel(plain(server), timeout=PATIENT)
    once = delivery("Disk\r\nBcc: eve@example.com full")
    await channel.send(once, ALLOWED)
    await channel.send(once, ALLOWED)
    await channel.send(delivery(), ALLOWED)
    await channel.close()
    mails = [message_from_bytes(each, policy=policy.default) for each in server.mails]
    assert mails[0]["Message-ID"] == mails[1]["Message-ID"] != mails[2]["Message-ID"]
    assert {mail["References"] for mail in mails} == {"<incidents-1@example.org>"}
    assert mails[0]["Bcc"] is None
    assert mails[0]["Subject"] == "[critical] Disk Bcc: eve@example.com full (level 1)"
    assert len(server.sessions) == 1, "one session carried them all"


async def test_dead_sessions_are_opened_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = EmailChannel(plain(server), timeout=PATIENT)
    monkeypatch.setattr(email_module, "_PROBE_AFTER", 0.0)
    assert isinstance(await channel.send(delivery(), ALLOWED), Sent)
    server.drop_everybody()
    assert isinstance(await channel.send(delivery(), ALLOWED), Sent)
    await channel.close()
    assert len(server.sessions) == 2


async def test_silence_is_retryable_and_bounded(server: Server) -> None:
    server.hang = True
    assert await send(plain(server), timeout=0.2) == Retryable("no answer within 0.2 s")


async def test_no_server_is_retryable_and_no_setting_goes_to_the_next_method() -> None:
    assert isinstance(await send(MailServer("127.0.0.1", 1)), Retryable)
    assert isinstance(await send(MailServer("")), Permanent)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


async def test_starttls_with_login(certificates: Certificates) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)
    server = Server(tls_context=context, require_starttls=True)
    await server.start()
    login: dict[str, Any] = {"username": "me", "starttls": StartTls.REQUIRED, "ca_file": str(certificates.authority)}
    assert isinstance(await send(plain(server, password="right", **login)), Sent)
    wrong = await send(plain(server, password="wrong", **login))
    assert isinstance(wrong, Retryable), "our own credentials can be mended"
    assert "login" in wrong.reason
    assert "wrong" not in wrong.reason
    distrusted = await send(plain(server, starttls=StartTls.REQUIRED))
    assert isinstance(distrusted, Retryable)
    server.stop()


async def test_a_password_never_travels_in_the_clear_unless_told_so() -> None:
    server = Server(auth_require_tls=False)
    await server.start()
    refused = await send(plain(server, username="me", password="right"))
    assert isinstance(refused, Retryable)
    assert server.logins == []
    assert isinstance(await send(plain(server, username="me", password="right", starttls=StartTls.OFF)), Sent)
    assert server.logins == [(b"me", b"right")]
    server.stop()


async def test_commands_leave_together_where_the_server_takes_that() -> None:
    """It answers none of them before it has all three; two mails take one session."""
    contents, sessions = list[bytes](), list[int]()

    async def serve(line: Line) -> None:
        sessions.append(1)
        await _greet(line)
        while True:
            commands = await line.read(b"\r\nDATA\r\n")
            assert commands == b"MAIL FROM:<tocsin@example.org>\r\nRCPT TO:<ana@example.com>\r\nDATA\r\n"
            await line.say(b"250-ok\r\n250 ok\r\n250 o")
            await line.say(b"k\r\n354 go on\r\n")
            contents.append(await line.read(b"\r\n.\r\n"))
            await line.say(b"250 2.0.0 queued as 4711\r\n")

    async with listening(serve) as port:
        channel = EmailChannel(MailServer("127.0.0.1", port, sender="tocsin@example.org"), timeout=PATIENT)
        assert await channel.send(delivery(), ALLOWED) == Sent("2.0.0 queued as 4711")
        assert await channel.send(delivery("Disk full\n.hidden"), ALLOWED) == Sent("2.0.0 queued as 4711")
        await channel.close()
    assert (len(contents), len(sessions)) == (2, 1)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (b"250 ok\r\n550 5.1.1 no such user\r\n354 go on\r\n", Permanent("550 5.1.1 no such user")),
        (b"250 ok\r\n450 4.2.0 greylisted\r\n503 no recipient\r\n", Retryable("450 4.2.0 greylisted", recipient=True)),
        (b"451 4.3.0 busy\r\n503 no sender\r\n503 no recipient\r\n", Retryable("451 4.3.0 busy")),
        (b"250 ok\r\n250 ok\r\n452 4.3.1 no room\r\n", Retryable("452 4.3.1 no room")),
        (b"250 ok\r\nwhat?\r\n", Retryable),
        (b"250-" + b"x" * 70_000, Retryable),
    ],
)
async def test_of_commands_that_leave_together_the_first_refusal_counts(answers: bytes, expected: Any) -> None:
    """No content follows, not even to a server that waits for it: its session ends."""
    rest = asyncio.get_running_loop().create_future()

    async def serve(line: Line) -> None:
        await _greet(line)
        await line.read(b"\r\nDATA\r\n")
        await line.say(answers)
        try:
            await line.read_exactly(1)
        except (asyncio.IncompleteReadError, ConnectionError):
            rest.set_result(b"")

    async with listening(serve) as port:
        outcome = await send(MailServer("127.0.0.1", port, sender="tocsin@example.org"), timeout=PATIENT)
        assert await rest == b""
    assert isinstance(outcome, expected) if isinstance(expected, type) else outcome == expected


async def test_a_kept_session_that_says_goodbye_is_not_used_again() -> None:
    sessions = list[Line]()
    taken = list[bytes]()

    async def yes(stage: str) -> bool:
        return True

    async def serve(line: Line) -> None:
        sessions.append(line)
        await take_mails(line, yes, taken, pipelining=True)

    async with listening(serve) as port:
        channel = EmailChannel(MailServer("127.0.0.1", port, sender="tocsin@example.org"), timeout=PATIENT)
        assert isinstance(await channel.send(delivery(), ALLOWED), Sent)
        sessions[0].end("says 421")
        assert isinstance(await channel.send(delivery(), ALLOWED), Sent)
        await channel.close()
    assert (len(taken), len(sessions)) == (2, 2)


@pytest.mark.parametrize("encrypted", [False, True])
def test_mails_leave_over_the_transports_of_uvloop(certificates: Certificates, encrypted: bool) -> None:
    """The services run on it, these tests do not: its transports are of other classes."""

    async def two_mails() -> None:
        made, tls = Server(), None
        if encrypted:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificates.certificate, certificates.key)
        await made.start(tls)
        channel = EmailChannel(
            plain(made, implicit_tls=encrypted, ca_file=str(certificates.authority)), timeout=PATIENT
        )
        for _ in range(2):
            assert await channel.send(delivery(), ALLOWED) == Sent("2.0.0 queued as 4711")
        await channel.close()
        made.stop()
        assert (len(made.mails), len(made.sessions)) == (2, 1)

    uvloop.run(two_mails())


async def _greet(line: Line) -> None:
    await line.say(b"220 raw ESMTP\r\n")
    await line.read(b"\r\n")
    await line.say(b"250-raw\r\n250 PIPELINING\r\n")
