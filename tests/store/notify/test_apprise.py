"""Apprise over real sockets, in its real processes: what goes out, what is fenced, and that no process and no secret gets away."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]
import pytest
import structlog
from aiohttp import web
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import notification_service_pb2 as service_pb
from tocsin_kit.errors import from_rpc_error
from tocsin_notify.channels.apprise import AppriseChannel
from tocsin_notify.channels.base import Delivery, NotStarted, Permit, Target
from tocsin_notify.domain.attempt import Outcome, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.gotify import TOKEN, GotifyServer
from tocsin_testkit.inbox import Inbox
from tocsin_testkit.mail import MailServer, text_of

from tests.store.notify.from_environment import open_channel
from tests.store.notify.phones import proven
from tests.store.notify.support import ALLOWED, World, bearer, job, new_org, until

LINK = "https://x.example/p/1"
PATIENT = 120.0
"""Seconds for an attempt that is to succeed: on a busy machine each process takes many to start."""
BESIDE = Path(__file__).with_name("apprise_beside.py")


@pytest.fixture
async def gotify(inbox: Inbox) -> AsyncIterator[GotifyServer]:
    async with GotifyServer(inbox) as server:
        yield server


@asynccontextmanager
async def channel(
    *, schemes: str = "gotify,mailto", workers: int = 1, timeout: float = PATIENT, allow_private: bool = True
) -> AsyncIterator[AppriseChannel]:
    """The channel alone. Its first message waits for its process, which takes a second or more to start."""
    environment = {
        "NOTIFY_APPRISE_SCHEMES": schemes,
        "NOTIFY_APPRISE_WORKERS": str(workers),
        "NOTIFY_ATTEMPT_TIMEOUT_SECONDS": str(timeout),
        "NOTIFY_LEASE_SECONDS": str(timeout + 5),
        "NOTIFY_ALLOW_PRIVATE_WEBHOOKS": str(allow_private),
    }
    sender = open_channel(Channel.APPRISE, environment)
    assert isinstance(sender, AppriseChannel)
    try:
        yield sender
    finally:
        await sender.close()


async def send(sender: AppriseChannel, url: str, *, org: str = "acme", permit: Permit = ALLOWED) -> Outcome:
    """One attempt."""
    given = pb.NotificationJob(page="pages/1", user="users/ana", incident="incidents/1", title="Disk full", level=2)
    target = Target(Channel.APPRISE, "masked", url.encode())
    now = datetime(2026, 1, 2, tzinfo=UTC)
    delivery = Delivery("k", uuid.uuid4(), org, Kind.NEW_INCIDENT, given, target, 1, now, "", LINK)
    return await sender.send(delivery, permit)


def processes() -> list[psutil.Process]:
    """Those that run Apprise for this test."""
    return [each for each in psutil.Process().children() if each.is_running() and _runs_apprise(each)]


def _runs_apprise(process: psutil.Process) -> bool:
    try:
        return "apprise" in " ".join(process.cmdline())
    except psutil.Error:
        return False


async def test_a_message_goes_out_and_what_the_service_says_is_yes_or_no(
    gotify: GotifyServer, mail: MailServer, inbox: Inbox
) -> None:
    async with channel() as sender:
        assert await send(sender, gotify.contact()) == Sent()
        [note] = gotify.notes
        assert note.title == "[critical] Disk full (level 2)"
        assert LINK in note.message
        for refusal in (401, 429, 500):
            gotify.refuse[TOKEN] = [web.Response(status=refusal)]
            outcome = await send(sender, gotify.contact())
            assert isinstance(outcome, Retryable)
            assert outcome.recipient
        by_mail = f"mailto://127.0.0.1:{mail.port}?from=tocsin@example.com&to=ana@example.com&mode=insecure"
        assert await send(sender, by_mail) == Sent()
        received = await inbox.wait_for(lambda m: m.channel == "email", "a mail")
        assert LINK in text_of(received)
        assert len(processes()) == 1, "one process serves one message after the other"
    assert not processes()


async def test_a_plugin_that_hangs_is_killed_and_its_process_replaced(gotify: GotifyServer) -> None:
    async with channel() as sender:
        await send(sender, gotify.contact())
        [before] = processes()
        gotify.hang.add(TOKEN)
        sender._timeout = 0.3
        assert await send(sender, gotify.contact()) == Retryable("no answer within 0.3 s")
        await until(lambda: not before.is_running())
        gotify.answers()
        sender._timeout = PATIENT
        assert await send(sender, gotify.contact()) == Sent()


async def test_one_that_ends_by_itself_is_replaced(gotify: GotifyServer) -> None:
    async with channel() as sender:
        await send(sender, gotify.contact())
        processes()[0].kill()
        await until(lambda: not processes())
        assert await send(sender, gotify.contact()) == Sent()


async def test_there_are_never_more_processes_and_one_tenant_never_has_them_all(gotify: GotifyServer) -> None:
    gotify.hang.add(TOKEN)
    # By itself the plugin waits for 4 s, in which a slow machine starts no second process.
    patient = gotify.contact(query=f"?rto={PATIENT:g}")
    async with channel(workers=2) as sender:
        hung = [asyncio.create_task(send(sender, patient)) for _ in range(3)]
        await until(lambda: gotify.requests == 1)
        other = asyncio.create_task(send(sender, patient, org="other"))
        await until(lambda: gotify.requests == 2)
        assert len(processes()) == 2
        sender._timeout = 0.2
        for org in ("acme", "third"):
            # A slow machine: the wait for a process and the whole attempt are found to be over at once.
            asyncio.get_running_loop().call_soon(time.sleep, 0.3)
            outcome = await send(sender, gotify.contact(), org=org)
            assert isinstance(outcome, Retryable)
            assert outcome.after is not None
            assert 1.0 <= outcome.after <= 5.0, "with jitter"
            assert outcome.reason == "every process that runs Apprise is busy"
        assert len(processes()) == 2
        gotify.answers()
        assert (await asyncio.gather(*hung, other)).count(Sent()) == 4


async def test_no_process_serves_two_tenants(gotify: GotifyServer) -> None:
    """Plugins are code of others, and may keep what they learn from one message to the next."""
    async with channel() as sender:
        served = []
        for org in ("acme", "acme", "other"):
            assert await send(sender, gotify.contact(), org=org) == Sent()
            await until(lambda: len(processes()) == 1)
            served.append(processes()[0].pid)
        assert served[0] == served[1] != served[2]


async def test_a_page_that_is_not_wanted_any_more_connects_nowhere(gotify: GotifyServer) -> None:
    class Never:
        async def begin(self, call: Callable[[], Awaitable[Any]], *, repeat: bool = False) -> Any:
            raise NotStarted("its incident was stopped")

    async with channel() as sender:
        with pytest.raises(NotStarted):
            await send(sender, gotify.contact(), permit=Never())
        assert gotify.requests == 0
        assert await send(sender, gotify.contact()) == Sent(), "its process serves on"


async def test_private_addresses_are_refused(beside: AppriseChannel, gotify: GotifyServer) -> None:
    for host in ("127.0.0.2", "private.example", "[::1]", "2130706434"):
        with structlog.testing.capture_logs() as lines:
            outcome = await send(beside, gotify.contact(host))
        assert isinstance(outcome, Retryable), host
        assert [line["events"] for line in lines if line["event"] == "apprise_fenced"] == [["socket.connect"]], (
            f"{host}: nothing listens there, so no request proves nothing"
        )
        assert all(host not in str(line) for line in lines), "addresses are a secret of the method"


@pytest.fixture
async def beside(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AppriseChannel]:
    """A channel that may call 127.0.0.1 and no other address."""
    async with channel(allow_private=False) as sender:
        command = sender._pool._command
        monkeypatch.setattr(sender._pool, "_command", (*command[:2], str(BESIDE), *command[4:]))
        yield sender


async def test_neither_a_redirect_nor_a_name_that_changes_leads_inside(
    beside: AppriseChannel, gotify: GotifyServer
) -> None:
    assert await send(beside, gotify.contact()) == Sent(), "what is public is called"
    inside = f"http://127.0.0.2:{gotify.port}/message"
    gotify.refuse[TOKEN] = [web.Response(status=307, headers={"Location": inside})]
    with structlog.testing.capture_logs() as lines:
        refused = await send(beside, gotify.contact(query="?redirect=yes"))
    assert isinstance(refused, Retryable)
    [line] = [line for line in lines if line["event"] == "apprise_fenced"]
    assert line["events"] == ["socket.connect"]
    assert gotify.requests == 2, "the redirect was not followed"
    assert await send(beside, gotify.contact("rebind.example")) == Sent()
    assert await send(beside, gotify.contact("rebind.example")) == refused, (
        "nothing tells it from a service that says no"
    )
    assert gotify.requests == 3


async def test_methods_are_checked_by_what_sends(world: World, gotify: GotifyServer) -> None:
    org = new_org()
    async with world.replica(apprise_schemes="gotify,zulip", allow_private_webhooks=False) as notify:
        for url, rule in {
            "file:///etc/passwd": "NOTIFY_APPRISE_SCHEMES",
            "exec://rm": "NOTIFY_APPRISE_SCHEMES",
            "syslog://": "must be a URL of Apprise",
            "json://example.com": "gotify, zulip; it has json",
            "gotify://a b": "must be a URL of Apprise without spaces",
            "gotify://": "must be a URL of Apprise",
            "gotify://example.com": "appriseit.com for the form of gotify://",
            gotify.contact(): "leads to a private address",
        }.items():
            wanted = contact_pb.ContactMethod(user="users/ana", apprise=contact_pb.AppriseContact(url=url))
            request = contact_pb.CreateContactMethodRequest(contact_method=wanted)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await notify.contacts.CreateContactMethod(request, metadata=bearer(org))
            [violation] = from_rpc_error(refused.value).fields
            assert violation.field == "contact_method.apprise.url", url
            assert rule in violation.description, url
    async with world.replica() as notify:
        with pytest.raises(grpc.aio.AioRpcError, match="has set no NOTIFY_APPRISE_SCHEMES"):
            await notify.contacts.CreateContactMethod(request, metadata=bearer(org))


async def test_a_page_is_accepted_and_the_url_stays_secret(world: World, gotify: GotifyServer) -> None:
    org = new_org()
    with structlog.testing.capture_logs() as lines:
        async with world.replica(apprise_schemes="gotify", public_url="https://tocsin.example.com") as notify:
            wanted = contact_pb.ContactMethod(user="users/ana")
            wanted.apprise.url = gotify.contact()
            method = await proven(world, notify, org, wanted, TOKEN)
            assert method.apprise.url == "gotify://…"
            stored = await world.row("SELECT address, secret FROM contact_methods WHERE org_id = $1", org)
            assert stored["address"] == "gotify://…"
            assert TOKEN.encode() not in stored["secret"]
            update = contact_pb.UpdateContactMethodRequest(contact_method=method)
            update.contact_method.display_name, update.contact_method.etag = "room", ""
            update.update_mask.paths[:] = ["display_name", "apprise"]
            changed = await notify.contacts.UpdateContactMethod(update, metadata=bearer(org))
            assert changed.contact_method.verified, "sent back as it was shown, it leads where it did"
            gotify.refuse[TOKEN] = [web.Response(status=500)]
            await notify.submit(job(org))
            await until(lambda: len(gotify.notes) == 2)
            request = service_pb.ListNotificationsRequest(user="users/ana")

            async def sent() -> bool:
                listed = await notify.notifications.ListNotifications(request, metadata=bearer(org))
                return any(each.state == pb.NOTIFICATION_STATE_SENT and each.incident for each in listed.notifications)

            await until(sent)
            [page] = [
                each
                for each in (await notify.notifications.ListNotifications(request, metadata=bearer(org))).notifications
                if each.incident
            ]
            get = service_pb.GetNotificationRequest(name=page.name)
            read = (await notify.notifications.GetNotification(get, metadata=bearer(org))).notification
            assert [each.outcome for each in read.attempts] == [pb.ATTEMPT_OUTCOME_RETRYABLE, pb.ATTEMPT_OUTCOME_SENT]
            assert read.attempts[-1].evidence == pb.EVIDENCE_ACCEPTED
            assert TOKEN not in str(read)
    assert TOKEN not in str(lines), "no log line holds the URL"


async def test_after_a_hang_the_page_takes_the_next_method(world: World, gotify: GotifyServer) -> None:
    org = new_org()
    gotify.hang.add(TOKEN)
    async with world.replica(apprise_schemes="gotify", attempts=1, attempt_timeout_seconds=1.0) as notify:
        first = await world.method(org, apprise="gotify://…", secret=gotify.contact())
        await world.method(org, webhook="second")
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, first, 0))
        await notify.submit(job(org))
        await world.inbox.wait_for(lambda m: m.address == "second", "the next method")
        assert gotify.requests <= 1
        gotify.answers()
