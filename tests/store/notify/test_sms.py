"""Text messages over real sockets: what each answer of the provider means, and who may send them."""

import uuid
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from aiohttp import web
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.sms import SmsChannel
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.twilio import ACCOUNT, SENDER, TOKEN, TwilioServer, error

from tests.store.notify.phones import ANA, PUBLIC, proven, running, taken
from tests.store.notify.support import ALLOWED, Notify, World, bearer, job, new_org


def send_to(account: TwilioAccount, callbacks: str = "", *, timeout: float = 20.0) -> Any:
    """One attempt by the channel alone."""

    async def send(number: str = ANA) -> Outcome:
        channel = SmsChannel(account, CallbackUrls(callbacks), timeout=timeout, concurrency=1)
        message = pb.NotificationJob(
            page="pages/1", user="users/ana", incident="incidents/1", title="Disk full", level=1
        )
        now = datetime(2026, 1, 2, tzinfo=UTC)
        target = Target(Channel.SMS, number)
        try:
            return await channel.send(
                Delivery("k", uuid.uuid4(), "acme", Kind.NEW_INCIDENT, message, target, 1, now), ALLOWED
            )
        finally:
            await channel.close()

    return send


def account(twilio: TwilioServer, token: str = TOKEN) -> TwilioAccount:
    return TwilioAccount(ACCOUNT, (token,), SENDER, twilio.url)


async def test_what_an_answer_means(twilio: TwilioServer) -> None:
    send = send_to(account(twilio))
    sent = await send()
    assert sent == Sent(twilio.messages[0].sid)
    assert twilio.messages[0].fields == {
        "To": ANA,
        "From": SENDER,
        "Body": "CRITICAL: Disk full (level 1)",
        "ValidityPeriod": "300",
    }
    for status, code, expected in [
        (400, 21211, Permanent),
        (400, 21610, Permanent),
        (400, 21614, Permanent),
        (400, 99_999, Permanent),
        (400, 21408, Retryable),
        (400, 21611, Retryable),
        (401, 20003, Retryable),
        (429, 20429, Retryable),
        (500, 20500, Retryable),
        (503, 0, Retryable),
    ]:
        twilio.refuse[ANA] = [error(status, code)]
        outcome = await send()
        assert isinstance(outcome, expected), (code, outcome)
        assert isinstance(outcome, Permanent | Retryable)
        assert outcome.reason.startswith(f"{status} {code} " if code else f"{status} ")
    assert len(twilio.messages) == 1
    refused = await send_to(account(twilio, "wrong"))()
    assert isinstance(refused, Retryable), "the operator can mend it"
    assert (refused.after or 0) > 30, "a page takes the next method meanwhile"
    assert "wrong" not in refused.reason.replace("the account or its token is wrong", "")


@pytest.mark.parametrize(("header", "seconds"), [("17", 17.0), ("Fri, 02 Jan 2026 00:00:40 GMT", 40.0)])
async def test_the_provider_says_when_to_come_again(twilio: TwilioServer, header: str, seconds: float) -> None:
    headers = {"Retry-After": header, "Date": "Fri, 02 Jan 2026 00:00:00 GMT"}
    twilio.refuse[ANA] = [error(429, 20429, headers=headers)]
    outcome = await send_to(account(twilio))()
    assert isinstance(outcome, Retryable)
    assert outcome.after == seconds


@pytest.mark.parametrize(
    "body", ["", "[]", "null", "{", '{"sid": 5, "date_created": 7}', '{"sid": "../x"}', "\x00" * 9000]
)
async def test_an_accepted_page_is_sent_with_any_rest_of_the_answer(twilio: TwilioServer, body: str) -> None:
    twilio.refuse[ANA] = [web.Response(status=201, text=body, content_type="application/json")]
    assert await send_to(account(twilio))() == Sent("")


async def test_variables_of_the_library_lead_nowhere_else(
    twilio: TwilioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TWILIO_EDGE", "TWILIO_REGION", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
        monkeypatch.setenv(name, "elsewhere")
    assert await send_to(account(twilio))() == Sent(twilio.messages[0].sid)


async def test_a_callback_that_is_refused_costs_the_receipt_and_not_the_page(twilio: TwilioServer) -> None:
    twilio.refuse[ANA] = [error(400, 21609)]
    outcome = await send_to(account(twilio), "https://not-public.example.com")()
    assert isinstance(outcome, Sent)
    assert "StatusCallback" not in twilio.messages[0].fields


async def test_no_answer_is_retryable_and_no_account_goes_to_the_next_method(twilio: TwilioServer) -> None:
    twilio.hang.add(ANA)
    assert isinstance(await send_to(account(twilio), timeout=0.2)(), Retryable)
    twilio.hang.discard(ANA)
    twilio.reset.add(ANA)
    assert isinstance(await send_to(account(twilio))(), Retryable)
    nobody = TwilioAccount(ACCOUNT, (TOKEN,), SENDER, "http://127.0.0.1:1")
    assert isinstance(await send_to(nobody)(), Retryable)
    assert isinstance(await send_to(TwilioAccount(""))(), Permanent)


async def test_a_number_is_verified_by_text_message_and_paged(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        wanted = contact_pb.ContactMethod(user="users/ana", sms=contact_pb.SmsContact(number="+49 (151) 123-456 78"))
        method = await proven(world, notify, org, wanted, ANA)
        assert method.sms.number == ANA
        again = contact_pb.CreateContactMethodRequest(contact_method=wanted)
        again.contact_method.sms.number = "+49 151 123456-78"
        with pytest.raises(grpc.aio.AioRpcError) as twice:
            await notify.contacts.CreateContactMethod(again, metadata=bearer(org))
        assert twice.value.code() is grpc.StatusCode.ALREADY_EXISTS, "it is the same number"
        await notify.submit(job(org))
        page = await taken(twilio, count=2)
        assert page.body.startswith(f"CRITICAL: Disk full on db-1 (level 1) {PUBLIC}/p/")

        method.sms.number = "+4915187654321"
        update = contact_pb.UpdateContactMethodRequest(contact_method=method)
        update.update_mask.paths.append("sms")
        with pytest.raises(grpc.aio.AioRpcError) as stale:
            await notify.contacts.UpdateContactMethod(update, metadata=bearer(org))
        assert stale.value.code() is grpc.StatusCode.ABORTED
        update.contact_method.etag = ""
        moved = (await notify.contacts.UpdateContactMethod(update, metadata=bearer(org))).contact_method
        assert not moved.verified, "nobody has proved that the new number reaches them"


async def test_numbers_and_installations_that_cannot_be_texted(world: World, twilio: TwilioServer) -> None:
    async def refusal(notify: Notify, number: str) -> str:
        wanted = contact_pb.ContactMethod(user="users/ana", sms=contact_pb.SmsContact(number=number))
        request = contact_pb.CreateContactMethodRequest(contact_method=wanted)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await notify.contacts.CreateContactMethod(request, metadata=bearer(new_org()))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        return str(refused.value.details())

    async with running(world, twilio) as notify:
        assert "premium rate" in await refusal(notify, "+19005551234")
        assert "as many digits" in await refusal(notify, "+1 23456")
    async with world.replica() as bare:
        assert "TWILIO_ACCOUNT_SID" in await refusal(bare, ANA)
