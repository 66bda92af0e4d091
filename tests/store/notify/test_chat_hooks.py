"""Mattermost, Discord and Teams by webhook over real sockets: what is shown, what refusals mean, and that the URL stays secret."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from aiohttp import web
from pydantic import SecretStr
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.settings import NotifySettings
from tocsin_testkit.chat_hooks import ChatHooks

from tests.store.notify.phones import proven
from tests.store.notify.support import ALLOWED, KEYS, World, bearer, job, new_org, until

PATHS = {
    Channel.MATTERMOST: "/hooks/xxx-generatedkey-xxx",
    Channel.DISCORD: "/api/webhooks/223704706495545344/3d89bb7572e0fb30d8128367b3b1b44f",
    Channel.TEAMS: "/workflows/0123456789?api-version=1&sp=%2Ftriggers&sig=abc_DEF-ghi",
}
LINK = "https://x.example/p/1"


@pytest.fixture
async def chats(world: World) -> AsyncIterator[ChatHooks]:
    async with ChatHooks(world.inbox) as server:
        yield server


async def send(chats: ChatHooks, channel: Channel, path: str = "", *, timeout: float = 10.0) -> Outcome:
    """One attempt by the channel alone."""
    given_settings: dict[str, Any] = {
        "database_url": SecretStr("postgresql://x"),
        "auth_signing_keys": SecretStr(KEYS),
        "allow_private_webhooks": True,
        "attempt_timeout_seconds": timeout,
    }
    settings = NotifySettings(**given_settings)
    sender = TYPES[channel].open(settings, CallbackUrls(""))
    given = pb.NotificationJob(page="pages/1", user="users/ana", incident="incidents/1", title="@here *full*", level=2)
    target = Target(channel, "masked", f"{chats.url}{path or PATHS[channel]}".encode())
    now = datetime(2026, 1, 2, tzinfo=UTC)
    try:
        return await sender.send(
            Delivery("k", uuid.uuid4(), "acme", Kind.NEW_INCIDENT, given, target, 1, now, "", LINK), ALLOWED
        )
    finally:
        await sender.close()


@pytest.mark.parametrize("channel", PATHS)
async def test_what_is_shown_and_what_answers_mean(chats: ChatHooks, channel: Channel) -> None:
    assert isinstance(await send(chats, channel), Sent)
    [posted] = chats.posted
    assert posted.path.startswith(PATHS[channel]), "the URL is called as it was given"
    assert LINK in json.dumps(posted.body)
    said = json.dumps(posted.body)
    if channel is Channel.DISCORD:
        assert posted.body["allowed_mentions"] == {"parse": []}
    else:
        assert "\\\\@here \\\\*full\\\\*" in said, "nothing of an alert is Markdown or a mention"
    path = PATHS[channel].partition("?")[0]
    for status, headers, expected, after in [
        (400, {}, Permanent, None),
        (401, {}, Permanent, None),
        (403, {}, Permanent, None),
        (404, {}, Permanent, None),
        (429, {"Retry-After": "17"}, Retryable, 17.0),
        (500, {}, Retryable, None),
        (502, {}, Retryable, None),
    ]:
        chats.refuse[path] = [web.Response(status=status, headers=headers)]
        outcome = await send(chats, channel)
        assert isinstance(outcome, expected), status
        assert getattr(outcome, "after", None) == after
    chats.refuse[path] = [web.json_response({"message": "slow down", "retry_after": 0.65}, status=429)]
    assert await send(chats, channel) == Retryable("429 slow down", 0.65)
    deleted = {"message": "Unknown Webhook", "code": 10015}
    chats.refuse[path] = [web.json_response(deleted, status=404)]
    assert await send(chats, channel) == Permanent("404 Unknown Webhook", gone=True)
    chats.reset.add(path)
    assert isinstance(await send(chats, channel), Retryable)
    chats.reset.clear()
    chats.hang.add(path)
    assert isinstance(await send(chats, channel, timeout=0.2), Retryable)


@pytest.mark.parametrize("channel", PATHS)
async def test_the_url_is_a_secret(world: World, chats: ChatHooks, channel: Channel) -> None:
    org, url = new_org(), chats.url + PATHS[channel]
    async with world.replica() as notify:
        wanted = contact_pb.ContactMethod(user="users/ana")
        getattr(wanted, channel).url = url
        method = await proven(world, notify, org, wanted, PATHS[channel].partition("?")[0])
        shown = getattr(method, channel).url
        assert shown == f"{chats.url}/…{url[-4:]}"
        stored = await world.row("SELECT address, secret FROM contact_methods WHERE org_id = $1", org)
        assert stored["address"] == shown
        assert url.encode() not in stored["secret"]
        # What was read is sent back whole: it leads where it did, and stays verified.
        update = contact_pb.UpdateContactMethodRequest(contact_method=method)
        update.contact_method.display_name, update.contact_method.etag = "room", ""
        update.update_mask.paths[:] = ["display_name", str(channel)]
        assert (await notify.contacts.UpdateContactMethod(update, metadata=bearer(org))).contact_method.verified
        await notify.submit(job(org))
        await until(lambda: len(chats.posted) == 2)
        getattr(update.contact_method, channel).url = url + "x"
        moved = (await notify.contacts.UpdateContactMethod(update, metadata=bearer(org))).contact_method
        assert not moved.verified
        getattr(wanted, channel).url = "ftp://example.com/x"
        request = contact_pb.CreateContactMethodRequest(contact_method=wanted)
        with pytest.raises(grpc.aio.AioRpcError):
            await notify.contacts.CreateContactMethod(request, metadata=bearer(org))
