"""The webhook channel against a real HTTP server: what each answer means, and what it sends."""

import asyncio
import hashlib
import hmac
import json
import socket
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.webhook import WebhookChannel
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind

from tests.store.notify.support import ALLOWED

SECRET = b"sixteen-or-more-characters"


class Receiver:
    """Answers what it is told to, and remembers what came."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.cut = 0
        self.hang = asyncio.Event()
        self.hang.set()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"

    async def stop(self) -> None:
        self.hang.set()
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.read()))
        await self.hang.wait()
        if self.cut:
            self.cut -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(**self.answer)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    server = Receiver()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel() -> AsyncIterator[WebhookChannel]:
    made = WebhookChannel(timeout=60, allow_private=True, concurrency=10)
    yield made
    await made.close()


def delivery(url: str) -> Delivery:
    return Delivery(
        key="key-1",
        notification=uuid.uuid4(),
        org_id="acme",
        kind=Kind.NEW_INCIDENT,
        job=pb.NotificationJob(page="pages/1", user="users/ana", incident="incidents/1", title="Ünïcode ✓", level=1),
        target=Target(Channel.WEBHOOK, url, SECRET, "k7"),
        attempt=3,
        start_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, Sent()),
        (204, {"X-Request-Id": "abc"}, Sent("abc")),
        (301, {"Location": "/elsewhere"}, Permanent),
        (307, {"Location": "/elsewhere"}, Permanent),
        (400, {}, Permanent),
        (401, {}, Permanent),
        (404, {}, Permanent),
        (410, {}, Permanent),
        (408, {}, Retryable("408 Request Timeout")),
        (425, {}, Retryable("425 Too Early")),
        (429, {"Retry-After": "7"}, Retryable("429 Too Many Requests", 7.0)),
        (
            503,
            {"Retry-After": "Fri, 02 Jan 2026 00:00:30 GMT", "Date": "Fri, 02 Jan 2026 00:00:00 GMT"},
            Retryable("503 Service Unavailable", 30.0),
        ),
        (503, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, Retryable("503 Service Unavailable", 0.0)),
        (503, {"Retry-After": "soon"}, Retryable("503 Service Unavailable")),
        (500, {}, Retryable("500 Internal Server Error")),
        (599, {}, Retryable),
    ],
)
async def test_what_an_answer_means(
    receiver: Receiver, channel: WebhookChannel, status: int, headers: dict[str, str], expected: Outcome | type[Outcome]
) -> None:
    receiver.answer = {"status": status, "headers": headers}
    outcome = await channel.send(delivery(receiver.url), ALLOWED)
    assert isinstance(outcome, expected) if isinstance(expected, type) else outcome == expected
    assert len(receiver.requests) == 1, "no redirect was followed, nothing was sent twice"


async def test_the_request_is_signed_and_named(receiver: Receiver, channel: WebhookChannel) -> None:
    await channel.send(delivery(receiver.url), ALLOWED)
    headers, content = receiver.requests[0]
    stamp, key_id, digest = (part.split("=", 1)[1] for part in headers["Tocsin-Signature"].split(","))
    assert stamp == "1767323045"
    assert key_id == "k7"
    assert digest == hmac.new(SECRET, f"{stamp}.".encode() + content, hashlib.sha256).hexdigest()
    assert headers["Tocsin-Delivery"] == "key-1"
    assert headers["Content-Type"] == "application/json"
    said = json.loads(content)
    assert (said["version"], said["type"], said["attempt"], said["incident"]["title"]) == (
        2,
        "new_incident",
        3,
        "Ünïcode ✓",
    )


async def test_silence_is_retryable_and_bounded(receiver: Receiver) -> None:
    receiver.hang.clear()
    channel = WebhookChannel(timeout=0.3, allow_private=True, concurrency=10)
    assert await channel.send(delivery(receiver.url), ALLOWED) == Retryable("no answer within 0.3 s")
    await channel.close()


async def test_a_connection_cut_is_retryable(receiver: Receiver, channel: WebhookChannel) -> None:
    receiver.cut = 1
    assert isinstance(await channel.send(delivery(receiver.url), ALLOWED), Retryable)
    assert len(receiver.requests) == 1


async def test_a_kept_connection_that_dies_is_no_failed_attempt(receiver: Receiver, channel: WebhookChannel) -> None:
    await channel.send(delivery(receiver.url), ALLOWED)
    receiver.cut = 1
    assert await channel.send(delivery(receiver.url), ALLOWED) == Sent()
    assert len(receiver.requests) == 3


async def test_an_endless_answer_is_read_for_a_moment_only(receiver: Receiver, channel: WebhookChannel) -> None:
    receiver.answer = {"status": 400, "body": b"no" * 5_000_000}
    outcome = await channel.send(delivery(receiver.url), ALLOWED)
    assert isinstance(outcome, Permanent)
    assert len(outcome.reason) < 400


async def test_a_host_that_does_not_listen_and_one_that_is_not_found(channel: WebhookChannel) -> None:
    refused = await channel.send(delivery("http://127.0.0.1:1/"), ALLOWED)
    assert isinstance(refused, Retryable)
    unknown = await channel.send(delivery("http://nowhere.invalid/"), ALLOWED)
    assert isinstance(unknown, Retryable)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "0x7f.1"])
async def test_private_addresses_are_refused_under_every_name(receiver: Receiver, host: str) -> None:
    channel = WebhookChannel(timeout=60, allow_private=False, concurrency=10)
    outcome = await channel.send(delivery(receiver.url.replace("127.0.0.1", host)), ALLOWED)
    await channel.close()
    assert isinstance(outcome, Permanent), outcome
    assert receiver.requests == []


async def test_a_name_that_changes_its_mind_reaches_nothing(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when looked at, private when called. The connection goes to what was looked at."""
    answers = iter(["203.0.113.1", "127.0.0.1"])
    looked = []

    def lookup(host: str, port: int, *_: object) -> list[tuple[object, ...]]:
        looked.append(host)
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(2, 1, 6, "", (next(answers, "127.0.0.1"), port))]

    monkeypatch.setattr("tocsin_kit.addresses.socket.getaddrinfo", lookup)
    monkeypatch.setattr("tocsin_kit.addresses.is_public", lambda address: str(address) == "203.0.113.1")
    channel = WebhookChannel(timeout=0.3, allow_private=False, concurrency=10)
    outcome = await channel.send(delivery(receiver.url.replace("127.0.0.1", "rebind.example")), ALLOWED)
    await channel.close()
    channel = WebhookChannel(timeout=60, allow_private=False, concurrency=10)
    again = await channel.send(delivery(receiver.url.replace("127.0.0.1", "again.example")), ALLOWED)
    nobodys = await channel.send(delivery("http://nowhere.invalid/"), ALLOWED)
    await channel.close()
    assert isinstance(outcome, Retryable), "it tried the public address, and nobody answers there"
    assert isinstance(again, Retryable)
    assert isinstance(nobodys, Retryable)
    # A private name and one that does not exist have the same result, or a tenant could find out what the operator's name servers
    # know.
    assert again.reason.replace("again.example", "X") == nobodys.reason.replace("nowhere.invalid", "X")
    assert looked[:2] == ["rebind.example", "again.example"]
    assert receiver.requests == []
