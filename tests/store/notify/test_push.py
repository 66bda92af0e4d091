"""Push by ntfy and Pushover over real sockets: what is shown, buttons that answer in place, and ringing that ends."""

import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.ids import new_id
from tocsin_notify.channels.base import ChannelSender, Delivery, Target
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.ntfy import NtfyChannel
from tocsin_notify.channels.pushover import PushoverChannel
from tocsin_notify.channels.pushover_account import PushoverAccount
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.ntfy import NtfyServer
from tocsin_testkit.ntfy import Push as Shown
from tocsin_testkit.pushover import TOKEN, USER, PushoverServer, error

from tests.store.notify.phones import PUBLIC, proven
from tests.store.notify.support import ALLOWED, WARNING, Notify, World, bearer, job, new_org, until

TOPIC = "ana-9f8e7d6c5b4a"


@pytest.fixture
async def ntfy(world: World) -> AsyncIterator[NtfyServer]:
    async with NtfyServer(world.inbox) as server:
        yield server


@pytest.fixture
async def pushover(world: World) -> AsyncIterator[PushoverServer]:
    async with PushoverServer(world.inbox) as server:
        yield server


@asynccontextmanager
async def running(world: World, provider: NtfyServer | PushoverServer, **overrides: Any) -> AsyncIterator[Notify]:
    """A replica that phones and the provider reach at its public address, and an escalation that takes answers."""
    world.escalation.responders.there = True
    settings = provider.settings() if isinstance(provider, PushoverServer) else {}
    async with world.replica(public_url=PUBLIC, **settings, **overrides) as replica:
        provider.reach[PUBLIC] = f"http://127.0.0.1:{replica.runtime.http.port}"
        yield replica


async def shown(ntfy: NtfyServer) -> Shown:
    """The first notification on ana's phone."""
    await until(lambda: ntfy.to(TOPIC))
    return ntfy.to(TOPIC)[0]


async def send(channel: ChannelSender, address: str, *, secret: str = "", kind: Kind = Kind.NEW_INCIDENT) -> Outcome:
    """One attempt by the channel alone."""
    given = pb.NotificationJob(
        page="pages/1", user="users/ana", incident="incidents/1", title="Disk full", source="db-1", level=2
    )
    target = Target(Channel.NTFY, address, secret.encode())
    now = datetime(2026, 1, 2, tzinfo=UTC)
    try:
        return await channel.send(
            Delivery("k", uuid.uuid4(), "acme", kind, given, target, 1, now, "123456", "https://x.example/p/1"), ALLOWED
        )
    finally:
        await channel.close()


def to_ntfy(*, timeout: float = 20.0) -> NtfyChannel:
    return NtfyChannel(CallbackUrls(PUBLIC, [b"k" * 32]), timeout=timeout, allow_private=True, concurrency=1)


def to_pushover(server: PushoverServer, token: str = TOKEN) -> PushoverChannel:
    return PushoverChannel(
        PushoverAccount(token, server.url), CallbackUrls(PUBLIC, [b"k" * 32]), timeout=20.0, concurrency=1
    )


async def test_what_ntfy_shows(ntfy: NtfyServer) -> None:
    ntfy.protected[TOPIC] = "tk_secret"
    assert await send(to_ntfy(), f"{ntfy.url}/{TOPIC}", secret="tk_secret") == Sent(ntfy.pushes[0].id)
    fields = ntfy.pushes[0].fields
    assert (fields["title"], fields["priority"]) == ("[critical] Disk full (level 2)", 5)
    assert fields["message"] == "You are paged at level 2. Source: db-1."
    assert ntfy.pushes[0].labels == ["Acknowledge", "Next level", "Open"]
    assert fields["click"] == "https://x.example/p/1"
    for kind, priority in [(Kind.RESOLUTION, 2), (Kind.VERIFICATION, 3), (Kind.TEST, 3)]:
        await send(to_ntfy(), f"{ntfy.url}/other", kind=kind)
        assert (ntfy.pushes[-1].fields["priority"], ntfy.pushes[-1].labels) == (priority, [])


async def test_what_an_answer_of_ntfy_means(ntfy: NtfyServer) -> None:
    def refused(status: int, code: int, **headers: str) -> web.Response:
        return web.json_response({"code": code, "http": status, "error": "no"}, status=status, headers=headers)

    address = f"{ntfy.url}/{TOPIC}"
    for status, code, headers, expected, after in [
        (400, 40009, {}, Permanent, None),
        (401, 40101, {}, Permanent, None),
        (403, 40301, {}, Permanent, None),
        (404, 40401, {}, Permanent, None),
        (413, 41303, {}, Permanent, None),
        (429, 42901, {}, Retryable, None),
        (429, 42901, {"Retry-After": "17"}, Retryable, 17.0),
        (429, 42908, {}, Retryable, 60.0),
        (500, 50001, {}, Retryable, None),
        (503, 0, {}, Retryable, None),
    ]:
        ntfy.refuse[TOPIC] = [refused(status, code, **headers)]
        outcome = await send(to_ntfy(), address)
        assert isinstance(outcome, expected), (code, outcome)
        assert getattr(outcome, "after", None) == after, code
        assert str(status) in getattr(outcome, "reason", "")
    assert ntfy.pushes == []
    ntfy.reset.add(TOPIC)
    assert isinstance(await send(to_ntfy(), address), Retryable)
    ntfy.reset.clear()
    ntfy.hang.add(TOPIC)
    assert isinstance(await send(to_ntfy(timeout=0.2), address), Retryable)
    assert isinstance(await send(to_ntfy(), "http://127.0.0.1:1/topic"), Retryable)


async def test_a_topic_is_verified_and_its_token_is_never_shown(world: World, ntfy: NtfyServer) -> None:
    org = new_org()
    ntfy.protected[TOPIC] = "tk_secret"
    async with running(world, ntfy) as notify:
        wanted = contact_pb.ContactMethod(
            user="users/ana", ntfy=contact_pb.NtfyContact(url=f"{ntfy.url}/{TOPIC}", token="tk_secret")
        )
        method = await proven(world, notify, org, wanted, TOPIC)
        assert (method.ntfy.url, method.ntfy.token) == (f"{ntfy.url}/{TOPIC}", "")
        # Renamed, it keeps its token; led elsewhere, it does not take the token along.
        method.display_name, method.etag = "phone", ""
        update = contact_pb.UpdateContactMethodRequest(contact_method=method)
        update.update_mask.paths.append("display_name")
        await notify.contacts.UpdateContactMethod(update, metadata=bearer(org))
        assert await world.admin.fetchval("SELECT secret IS NOT NULL FROM contact_methods WHERE org_id = $1", org)
        update.update_mask.paths[:] = ["ntfy"]
        update.contact_method.ntfy.url = f"{ntfy.url}/another-topic"
        moved = (await notify.contacts.UpdateContactMethod(update, metadata=bearer(org))).contact_method
        assert not moved.verified
        assert await world.admin.fetchval("SELECT secret IS NULL FROM contact_methods WHERE org_id = $1", org)
        for address in ("https://ntfy.sh", "https://ntfy.sh/a/b", "https://ntfy.sh/topic?x=1", "https://ntfy.sh/t%20c"):
            wanted.ntfy.url = address
            request = contact_pb.CreateContactMethodRequest(contact_method=wanted)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await notify.contacts.CreateContactMethod(request, metadata=bearer(org))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("label", "action"), [("Acknowledge", "acknowledge"), ("Next level", "escalate")])
async def test_a_button_answers_in_place(world: World, ntfy: NtfyServer, label: str, action: str) -> None:
    org = new_org()
    async with running(world, ntfy) as notify:
        await world.method(org, ntfy=f"{ntfy.url}/{TOPIC}")
        await notify.submit(job(org))
        push = await shown(ntfy)
        status, _ = await ntfy.presses(push, label)
        assert status == 200
        await ntfy.presses(push, label)
        asked = 2 if action == "acknowledge" else 1
        assert world.escalation.responders.acted == [(action, "users/ana", "ntfy")] * asked, (
            "the next level is paged once, and an acknowledgement may have lapsed between the two"
        )
        row = await world.row("SELECT evidence, evidence_code FROM attempts WHERE org_id = $1", org)
        assert (row["evidence"], row["evidence_code"]) == ("answered", f"button {action}")


async def test_a_button_that_cannot_be_served_says_why(world: World, ntfy: NtfyServer) -> None:
    org = new_org()
    async with running(world, ntfy) as notify:
        await world.method(org, ntfy=f"{ntfy.url}/{TOPIC}")
        await notify.submit(job(org))
        push = await shown(ntfy)
        answered = world.escalation.responders
        for reason, expected in [
            (ErrorReason.ERROR_REASON_INCIDENT_RESOLVED, 409),
            (ErrorReason.ERROR_REASON_INCIDENT_STATE, 409),
            (ErrorReason.ERROR_REASON_NO_NEXT_LEVEL, 409),
            (ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED, 503),
            (ErrorReason.ERROR_REASON_INVALID_FIELD, 400),
            (ErrorReason.ERROR_REASON_USER_NOT_FOUND, 400),
        ]:
            answered.refuses = reason
            status, said = await ntfy.presses(push, "Next level")
            assert status == expected
            assert ("to repeat it will not help" in said) is (expected == 400)
        answered.refuses, answered.there = None, False
        assert (await ntfy.presses(push, "Acknowledge"))[0] == 503
        answered.there = True
        await world.forward(timedelta(days=2))
        assert (await ntfy.presses(push, "Acknowledge"))[0] == 410
        assert answered.acted == []


async def test_urls_of_buttons_cannot_be_made_up(world: World, ntfy: NtfyServer) -> None:
    org = new_org()
    async with running(world, ntfy) as notify:
        await world.method(org, ntfy=f"{ntfy.url}/{TOPIC}")
        await notify.submit(job(org))
        push = await shown(ntfy)
        url = push.fields["actions"][0]["url"]
        assert (await ntfy.calls_back("GET", url))[0] == 405, "previews and scanners press nothing"
        for forged in (
            url.replace("action=acknowledge", "action=escalate"),
            url.replace("?", "?action=escalate&"),
            url + "&action=escalate",
            url.replace(org, new_org()),
            url.replace("attempt=1", "attempt=2"),
            url.partition("&mac=")[0],
            url[:-1] + ("A" if url[-1] != "A" else "B"),
            url + "%C3%BC",
            url.replace("via=ntfy", "via=phone"),
        ):
            assert (await ntfy.calls_back("POST", forged))[0] == 401, forged
        assert world.escalation.responders.acted == []
        assert (await ntfy.calls_back("POST", url, data=b"\xff" * 100))[0] == 200, "what the body says is not read"


async def test_what_pushover_gets_and_what_its_answers_mean(pushover: PushoverServer) -> None:
    outcome = await send(to_pushover(pushover), USER)
    assert outcome == Sent(pushover.pushes[0].receipt)
    fields = pushover.pushes[0].fields
    assert (fields["priority"], fields["retry"], fields["expire"]) == ("2", "60", "3600")
    assert fields["url"] == "https://x.example/p/1"
    for kind, priority in [(Kind.RESOLUTION, "-1"), (Kind.VERIFICATION, "0")]:
        assert await send(to_pushover(pushover), USER, kind=kind) == Sent("")
        assert pushover.pushes[-1].fields["priority"] == priority
        assert "callback" not in pushover.pushes[-1].fields
    assert isinstance(await send(to_pushover(pushover), "x" * 30), Permanent)
    wrong = await send(to_pushover(pushover, "wrong"), USER)
    assert isinstance(wrong, Retryable), "the operator can mend it"
    assert wrong.after == 60.0, "a page takes the next method meanwhile"
    assert "PUSHOVER_TOKEN" in wrong.reason
    answers: list[tuple[Callable[[], web.Response], type[Outcome], float | None]] = [
        (lambda: error(400, "message is too long", message="too long"), Permanent, None),
        (lambda: error(429, "application is over its quota"), Retryable, 60.0),
        (lambda: web.Response(status=500, headers={"Retry-After": "5"}), Retryable, 5.0),
        (lambda: web.Response(status=502, text="<html>"), Retryable, None),
    ]
    for answer, expected, after in answers:
        pushover.refuse[USER] = [answer()]
        outcome = await send(to_pushover(pushover), USER)
        assert isinstance(outcome, expected)
        assert getattr(outcome, "after", None) == after
    assert isinstance(await send(to_pushover(pushover, ""), USER), Permanent)
    pushover.reset.add(USER)
    assert isinstance(await send(to_pushover(pushover), USER), Retryable)


async def test_a_press_in_the_app_acknowledges(world: World, pushover: PushoverServer) -> None:
    org = new_org()
    async with running(world, pushover) as notify:
        wanted = contact_pb.ContactMethod(user="users/ana", pushover=contact_pb.PushoverContact(user_key=USER))
        await proven(world, notify, org, wanted, USER)
        await notify.submit(job(org), job(org, severity=WARNING))
        await until(lambda: len(pushover.pushes) == 3)
        push = next(push for push in pushover.pushes if push.receipt)
        forged = push.fields["callback"].replace(org, new_org())
        assert (await pushover.calls_back("POST", forged, data={"receipt": push.receipt, "acknowledged": "1"}))[
            0
        ] == 401
        for _ in range(2):
            assert (await pushover.acknowledges(push))[0] == 200
        assert world.escalation.responders.acted == [("acknowledge", "users/ana", "pushover")]


async def test_the_ringing_ends_once_a_person_has_answered(world: World, pushover: PushoverServer) -> None:
    org, answered, other = new_org(), new_id(), new_id()
    async with running(world, pushover) as notify:
        await world.method(org, pushover=USER)
        await notify.submit(job(org, answered), job(org, other), job(org, answered, severity=WARNING))
        await until(lambda: len(pushover.pushes) == 3)
        await until(lambda: _all_sent(world, org))
        receipts = await world.admin.fetch(
            """SELECT a.provider_id FROM attempts a JOIN notifications n ON n.id = a.notification_id
               WHERE n.incident = $1 AND a.provider_id <> ''""",
            answered,
        )
        [receipt] = [row["provider_id"] for row in receipts]
        ringing = next(push for push in pushover.pushes if push.receipt == receipt)
        pushover.refuse[receipt] = [web.Response(status=503), error(429, "slow down")]
        await notify.cancel(org, answered)
        await until(lambda: not pushover.refuse[receipt])
        passed = itertools.count(10, 10)

        async def cancelled_meanwhile() -> int:
            """Time passes in steps: the wait that follows the second refusal may be noted after any of them."""
            await world.forward(timedelta(seconds=next(passed)))
            return ringing.cancelled

        await until(cancelled_meanwhile)
        await until(lambda: world.admin.fetchval("SELECT followed FROM cancel_fences WHERE org_id = $1", org))
        assert [push.cancelled for push in pushover.pushes if push is not ringing] == [0, 0]
        await notify.cancel(org, other, reason="resolved by users/ben")
        await until(lambda: sum(push.cancelled for push in pushover.pushes) == 2)
        assert ringing.cancelled == 1, "told once"


async def _all_sent(world: World, org: str) -> bool:
    return set(await world.states("org_id = $1", org)) == {"sent"}


async def test_installations_without_an_application(world: World) -> None:
    async with world.replica() as bare:
        wanted = contact_pb.ContactMethod(user="users/ana", pushover=contact_pb.PushoverContact(user_key=USER))
        request = contact_pb.CreateContactMethodRequest(contact_method=wanted)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await bare.contacts.CreateContactMethod(request, metadata=bearer(new_org()))
        assert "PUSHOVER_TOKEN" in str(refused.value.details())
