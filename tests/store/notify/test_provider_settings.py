"""The settings of providers make a difference to what the provider gets, each by itself, from the environment on."""

import ssl
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.domain.attempt import Outcome, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.pushover import USER, PushoverServer
from tocsin_testkit.slack import SlackServer
from tocsin_testkit.telegram import TelegramServer
from tocsin_testkit.twilio import TwilioServer

from tests.certificates import make_certificates
from tests.store.notify.from_environment import open_channel
from tests.store.notify.phones import ANA
from tests.store.notify.support import ALLOWED
from tests.store.notify.test_email_channel import Server


async def send(channel: Channel, address: str, environment: Mapping[str, str], title: str = "Disk full") -> Outcome:
    """One attempt of a critical page, by the channel of a service with these variables."""
    job = pb.NotificationJob(
        page="pages/1", user="users/ana", incident="incidents/1", title=title, level=1, severity=SEVERITY_CRITICAL
    )
    now = datetime(2026, 1, 2, tzinfo=UTC)
    sender = open_channel(channel, environment)
    try:
        return await sender.send(
            Delivery("k", uuid.uuid4(), "acme", Kind.NEW_INCIDENT, job, Target(channel, address), 1, now), ALLOWED
        )
    finally:
        await sender.close()


@pytest.mark.parametrize(
    ("server", "channel", "address", "variable"),
    [
        (TwilioServer, Channel.SMS, ANA, "TWILIO_BASE_URL"),
        (PushoverServer, Channel.PUSHOVER, USER, "PUSHOVER_BASE_URL"),
        (TelegramServer, Channel.TELEGRAM, "42", "TELEGRAM_BASE_URL"),
        (SlackServer, Channel.SLACK, "C0123456789", "SLACK_BASE_URL"),
    ],
)
async def test_a_provider_is_called_where_the_settings_say(
    server: type[TwilioServer | PushoverServer | TelegramServer | SlackServer],
    channel: Channel,
    address: str,
    variable: str,
) -> None:
    async with server() as one, server() as other:
        await send(channel, address, {**one.settings(), variable: other.url})
        assert (one.requests, other.requests) == (0, 1)
        await send(channel, address, {**one.settings(), variable: one.url})
        assert (one.requests, other.requests) == (1, 1)


@pytest.mark.parametrize(
    ("channel", "variable", "field", "values"),
    [
        (Channel.SMS, "TWILIO_FROM", "From", ("+15005550001", "Tocsin")),
        (Channel.SMS, "TWILIO_SMS_VALIDITY_SECONDS", "ValidityPeriod", ("60", "600")),
        (Channel.VOICE, "TWILIO_FROM", "From", ("+15005550001", "+15005550002")),
        (Channel.VOICE, "TWILIO_VOICE_FROM", "From", ("+15005550001", "+15005550002")),
        (Channel.VOICE, "TWILIO_RING_SECONDS", "Timeout", ("12", "45")),
    ],
)
async def test_what_twilio_is_asked_for(channel: Channel, variable: str, field: str, values: tuple[str, str]) -> None:
    async with TwilioServer() as twilio:
        for value in values:
            assert isinstance(await send(channel, ANA, {**twilio.settings(), variable: value}), Sent)
        asked = [each.fields for each in twilio.messages] or [dict(each.fields) for each in twilio.calls]
        assert tuple(each[field] for each in asked) == values


async def test_a_text_message_takes_as_many_segments_as_may_be() -> None:
    async with TwilioServer() as twilio:
        for most in ("1", "2"):
            await send(Channel.SMS, ANA, {**twilio.settings(), "TWILIO_SMS_SEGMENTS": most}, title="x" * 600)
        short, longer = (len(message.body) for message in twilio.messages)
        assert short <= 160 < longer <= 2 * 153


@pytest.mark.parametrize(
    ("variable", "field", "values"),
    [
        ("PUSHOVER_RETRY_SECONDS", "retry", ("30", "90")),
        ("PUSHOVER_EXPIRE_SECONDS", "expire", ("600", "7200")),
    ],
)
async def test_how_long_pushover_rings(variable: str, field: str, values: tuple[str, str]) -> None:
    async with PushoverServer() as pushover:
        for value in values:
            await send(Channel.PUSHOVER, USER, {**pushover.settings(), variable: value})
        assert tuple(push.fields[field] for push in pushover.pushes) == values


async def test_whom_the_mail_server_sees_and_whom_it_must_be(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    server = Server(auth_require_tls=False)  # it knows of no TLS but STARTTLS
    await server.start(tls)
    given = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(server.port),
        "SMTP_USERNAME": "me",
        "SMTP_PASSWORD": "right",
        "SMTP_FROM": "Tocsin <pager@example.org>",
        "SMTP_IMPLICIT_TLS": "true",
        "SMTP_CA_FILE": str(certificates.authority),
    }

    async def mailed(**changed: str) -> Outcome:
        return await send(Channel.EMAIL, "ana@example.com", given | changed)

    assert isinstance(await mailed(), Sent)
    assert isinstance(await mailed(SMTP_USERNAME="you", SMTP_FROM="other@example.net"), Sent)
    assert isinstance(await mailed(SMTP_PASSWORD="wrong"), Retryable)
    logins = list(dict.fromkeys(server.logins))  # a refused one is tried by each mechanism
    assert logins == [(b"me", b"right"), (b"you", b"right"), (b"me", b"wrong")]
    assert server.senders == ["pager@example.org", "other@example.net"]
    shown = [message_from_bytes(each, policy=policy.default)["From"] for each in server.mails]
    assert shown == ["Tocsin <pager@example.org>", "other@example.net"]
    distrusted = await mailed(SMTP_CA_FILE="")
    assert isinstance(distrusted, Retryable)
    assert "CERTIFICATE_VERIFY_FAILED" in distrusted.reason
    server.stop()


async def test_tls_from_the_first_byte_is_spoken_if_the_settings_say_so() -> None:
    """To a server that speaks none: it would wait for ever in the other case."""
    server = Server()
    await server.start()
    given = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(server.port)}
    assert isinstance(await send(Channel.EMAIL, "ana@example.com", {**given, "SMTP_IMPLICIT_TLS": "true"}), Retryable)
    assert isinstance(await send(Channel.EMAIL, "ana@example.com", {**given, "SMTP_IMPLICIT_TLS": "false"}), Sent)
    server.stop()
