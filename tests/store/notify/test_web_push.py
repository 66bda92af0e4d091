"""Push to a browser over a real socket: sealed, proven, told to have come, and answered from where it is shown."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from aiohttp import web
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.ids import new_id, parse_uuid_name
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.web_push import WebPushChannel
from tocsin_notify.channels.web_push_sealing import Vapid
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.push_service import VAPID_PRIVATE_KEY, VAPID_SUBJECT, Browser, PushService

from tests.store.notify.phones import PUBLIC, proven
from tests.store.notify.support import ALLOWED, Notify, World, bearer, job, new_org, until

FAILED, UNREACHABLE = escalation_pb.PAGE_OUTCOME_KIND_FAILED, escalation_pb.PAGE_OUTCOME_KIND_UNREACHABLE
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
async def push(world: World) -> AsyncIterator[PushService]:
    async with PushService(world.inbox) as server:
        yield server


@asynccontextmanager
async def running(world: World, push: PushService, **overrides: Any) -> AsyncIterator[Notify]:
    world.escalation.responders.there = True
    async with world.replica(public_url=PUBLIC, **push.settings(), **overrides) as replica:
        push.reach[PUBLIC] = f"http://127.0.0.1:{replica.runtime.http.port}"
        yield replica


def contact(browser: Browser) -> contact_pb.ContactMethod:
    return contact_pb.ContactMethod(
        user="users/ana", web_push=contact_pb.WebPushContact(subscription=browser.subscription)
    )


async def send(
    browser: Browser,
    *,
    kind: Kind = Kind.NEW_INCIDENT,
    title: str = "Disk full",
    key: str = VAPID_PRIVATE_KEY,
    timeout: float = 20.0,
) -> Outcome:
    """One attempt by the channel alone."""
    channel = WebPushChannel(
        Vapid(key, VAPID_SUBJECT), CallbackUrls(PUBLIC, [b"k" * 32]), timeout=timeout, allow_private=True, concurrency=1
    )
    given = pb.NotificationJob(
        page="pages/1", user="users/ana", incident="incidents/1", title=title, text=title, source="db-1", level=2
    )
    target = Target(Channel.WEB_PUSH, "shown", browser.subscription.encode())
    link = "https://x.example/p/1"
    try:
        return await channel.send(
            Delivery("k", uuid.uuid4(), "acme", kind, given, target, 1, NOW, "123456", link), ALLOWED
        )
    finally:
        await channel.close()


async def test_what_a_browser_shows(push: PushService) -> None:
    phone = push.subscribe("phone")
    assert isinstance(await send(phone), Sent)
    [message], [headers] = phone.shown, phone.headers
    assert (message["title"], message["body"]) == (
        "[critical] Disk full (level 2)",
        "You are paged at level 2. Source: db-1.",
    )
    assert (message["loudness"], headers["Urgency"], headers["TTL"]) == ("wakes", "high", "3600")
    assert [button["label"] for button in message["buttons"]] == ["Acknowledge", "Next level"]
    assert message["link"] == "https://x.example/p/1"
    for kind, urgency in [(Kind.RESOLUTION, "low"), (Kind.TEST, "normal"), (Kind.VERIFICATION, "normal")]:
        await send(phone, kind=kind)
        assert (phone.headers[-1]["Urgency"], phone.shown[-1]["buttons"]) == (urgency, [])
    assert phone.shown[-1]["code"] == "123456"


@pytest.mark.parametrize("letter", ["x", "ä", "\U0001f525", '"', "\\"])
async def test_the_longest_text_still_fits_into_a_push(push: PushService, letter: str) -> None:
    phone = push.subscribe("phone")
    assert isinstance(await send(phone, kind=Kind.MESSAGE, title=letter * 4096), Sent)
    assert phone.shown[0]["body"].startswith(letter * 300)


async def test_what_an_answer_of_a_push_service_means(push: PushService) -> None:
    phone = push.subscribe("phone")
    for status, headers, expected, after in [
        (400, {}, Permanent, None),
        (401, {}, Permanent, None),
        (403, {}, Permanent, None),
        (404, {}, Permanent, None),
        (410, {}, Permanent, None),
        (413, {}, Permanent, None),
        (429, {}, Retryable, None),
        (429, {"Retry-After": "17"}, Retryable, 17.0),
        (500, {}, Retryable, None),
        (503, {"Retry-After": "5"}, Retryable, 5.0),
    ]:
        push.refuse["phone"] = [web.Response(status=status, headers=headers, text="no")]
        outcome = await send(phone)
        assert isinstance(outcome, expected), (status, outcome)
        assert getattr(outcome, "after", None) == after, status
        assert str(status) in getattr(outcome, "reason", "")
        assert getattr(outcome, "gone", False) == (status in (404, 410)), "others say nothing of the browser"
    assert phone.shown == []
    other = await send(phone, key="A" * 42 + "E")
    assert isinstance(other, Permanent)
    assert "another VAPID key: subscribe it again" in other.reason
    assert isinstance(await send(phone, key=""), Permanent)
    push.hang.add("phone")
    assert isinstance(await send(phone, timeout=0.3), Retryable)
    push.hang.clear()
    push.reset.add("phone")
    assert isinstance(await send(phone), Retryable)
    push.reset.clear()
    push.gone.add("phone")
    over = await send(phone)
    assert isinstance(over, Permanent)
    assert "not subscribed any more" in over.reason
    assert over.gone


async def test_a_browser_is_proven_paged_tells_that_it_shows_the_page_and_answers(
    world: World, push: PushService
) -> None:
    org = new_org()
    phone = push.subscribe("phone")
    async with running(world, push) as notify:
        method = await proven(world, notify, org, contact(phone), "phone")
        assert method.web_push.subscription == f"https://127.0.0.1:{push.port}/…hone", "the credential is not shown"
        given = job(org, incident=new_id())
        await notify.submit(given)
        await until(lambda: len(phone.shown) == 2)
        shown = phone.shown[1]
        notification = await world.admin.fetchval(
            "SELECT id FROM notifications WHERE org_id = $1 ORDER BY create_time DESC LIMIT 1", org
        )
        evidence = "SELECT evidence FROM attempts WHERE notification_id = $1"
        # A caller who invents URLs proves nothing.
        assert (await push.calls_back("POST", shown["receipt"].replace("attempt=1", "attempt=2")))[0] == 401
        assert (await push.calls_back("POST", shown["receipt"].replace("/v1/receipt", "/v1/button")))[0] == 401
        assert (await push.calls_back("POST", shown["buttons"][0]["url"].replace("/v1/button", "/v1/receipt")))[
            0
        ] == 401
        assert await world.admin.fetchval(evidence, notification) == ""
        for _ in range(2):
            assert (await push.calls_back("POST", shown["receipt"]))[0] == 204
        assert await world.admin.fetchval(evidence, notification) == "delivered"
        status, text = await push.calls_back("POST", shown["buttons"][0]["url"])
        assert (status, text) == (200, "Acknowledged.")
        assert world.escalation.responders.acted == [("acknowledge", "users/ana", "web push")]
        assert await world.admin.fetchval(evidence, notification) == "answered"


async def test_a_push_that_is_not_shown_in_time_has_the_next_method_called(world: World, push: PushService) -> None:
    org = new_org()
    phone = push.subscribe("phone")
    async with running(world, push, receipt_timeout_seconds=1800) as notify:
        first = await proven(world, notify, org, contact(phone), "phone")
        second = await world.method(org, email="ana@example.com")
        first_id = parse_uuid_name(first.name, "contactMethods")
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, first_id, 0), (pb.URGENCY_HIGH, second, 3600))
        await notify.submit(job(org))
        await until(lambda: len(phone.shown) == 2)
        await until(lambda: _sent(world, org))
        await world.forward(timedelta(minutes=1))
        assert not any(m.address == "ana@example.com" for m in world.inbox.messages)
        await world.forward(timedelta(minutes=31))
        await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the page by mail")


async def _sent(world: World, org: str) -> bool:
    return await world.states("org_id = $1 AND channel = 'web_push'", org) == ["sent", "sent"]


async def verified(notify: Notify, org: str, name: str) -> bool:
    request = contact_pb.GetContactMethodRequest(name=name)
    return bool((await notify.contacts.GetContactMethod(request, metadata=bearer(org))).contact_method.verified)


async def test_a_browser_that_is_gone_counts_no_more_and_its_owner_is_told(world: World, push: PushService) -> None:
    org = new_org()
    phone = push.subscribe("phone")
    async with running(world, push) as notify:
        method = await proven(world, notify, org, contact(phone), "phone")
        await world.method(org, email="ana@example.com")
        push.gone.add("phone")
        await notify.submit(job(org))
        told = await world.inbox.wait_for(lambda m: "changed how Tocsin reaches" in m.subject, "the notice")
        assert told.address == "ana@example.com"
        assert b"Tocsin does not use a contact method of yours (web push) any more" in told.body
        assert not await verified(notify, org, method.name)
        # It is no hope for the next page either, and its push service is not asked again.
        asked = push.requests
        await notify.submit(job(org))
        await until(lambda: sum(m.incident != "" for m in world.inbox.messages) == 2)
        assert push.requests == asked
        assert sum("changed how Tocsin" in m.subject for m in world.inbox.messages) == 1


async def test_without_another_method_the_level_is_left_when_the_browser_is_gone(
    world: World, push: PushService
) -> None:
    org = new_org()
    phone = push.subscribe("phone")
    async with running(world, push) as notify:
        await proven(world, notify, org, contact(phone), "phone")
        push.gone.add("phone")
        await notify.submit(job(org))
        await until(lambda: [each.kind for each in world.escalation.outcomes] == [FAILED])
        await notify.submit(job(org))
        await until(lambda: [each.kind for each in world.escalation.outcomes] == [FAILED, UNREACHABLE])
        assert "not subscribed any more" in world.escalation.outcomes[0].reason


async def test_a_browser_that_was_subscribed_anew_meanwhile_is_not_gone(world: World, push: PushService) -> None:
    org = new_org()
    async with running(world, push) as notify:
        method = await proven(world, notify, org, contact(push.subscribe("phone")), "phone")
        id = parse_uuid_name(method.name, "contactMethods")
        await world.admin.execute("UPDATE contact_methods SET update_time = app_now() + '1 h' WHERE id = $1", id)
        push.gone.add("phone")
        await notify.submit(job(org))
        await until(lambda: [each.kind for each in world.escalation.outcomes] == [FAILED])
        assert await verified(notify, org, method.name)


async def test_what_no_browser_gave_is_refused(world: World, push: PushService) -> None:
    org = new_org()
    phone = push.subscribe("phone")
    keys = json.loads(phone.subscription)["keys"]
    async with running(world, push) as notify:
        for subscription, said in [
            ("{}", "must be what the browser's PushSubscription says as JSON"),
            (json.dumps({"endpoint": "ftp://x.example/1", "keys": keys}), "must have an endpoint that"),
            (json.dumps({"endpoint": "https://x.example/1", "keys": keys | {"auth": ""}}), "16 bytes"),
        ]:
            wanted = contact(phone)
            wanted.web_push.subscription = subscription
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await notify.contacts.CreateContactMethod(
                    contact_pb.CreateContactMethodRequest(contact_method=wanted), metadata=bearer(org)
                )
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "contact_method.web_push.subscription" in str(refused.value.details())
            assert said in str(refused.value.details())
