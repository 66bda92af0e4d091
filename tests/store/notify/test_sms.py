"""Text messages over real sockets: what each answer of the provider means, what receipts do, and who may send them."""

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import grpc
import pytest
from aiohttp import web
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import notification_service_pb2 as service_pb
from tocsin_kit.ids import new_id
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.sms import SmsChannel
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.twilio import ACCOUNT, SENDER, TOKEN, Message, TwilioServer, error, sign

from tests.store.notify.phones import ANA, PUBLIC, proven, running
from tests.store.notify.support import ALLOWED, Notify, World, bearer, job, new_org, until

FAILED = pb.EVIDENCE_FAILED
DELIVERED = pb.EVIDENCE_DELIVERED


async def taken(twilio: TwilioServer, number: str = ANA, count: int = 1) -> Message:
    """The message, once that many were taken for the number."""
    await until(lambda: len(twilio.to(number)) >= count)
    return twilio.to(number)[count - 1]


async def attempts(world: World, notify: Notify, org: str) -> list[pb.Attempt]:
    """Of the tenant's only text message."""
    id = (await world.row("SELECT id FROM notifications WHERE org_id = $1 AND channel = 'sms'", org))["id"]
    request = service_pb.GetNotificationRequest(name=f"notifications/{id}")
    response = await notify.notifications.GetNotification(request, metadata=bearer(org))
    return list(response.notification.attempts)


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
async def test_what_was_taken_is_sent_whatever_else_the_answer_says(twilio: TwilioServer, body: str) -> None:
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


async def test_receipts_are_noted_and_never_move_back(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        await world.method(org, sms=ANA)
        await notify.submit(job(org))
        message = await taken(twilio)
        await until(
            lambda: any(each.kind == escalation_pb.PAGE_OUTCOME_KIND_SENT for each in world.escalation.outcomes)
        )
        [attempt] = await attempts(world, notify, org)
        assert (attempt.evidence, attempt.provider_id) == (pb.EVIDENCE_ACCEPTED, message.sid)
        assert not attempt.HasField("evidence_time")
        for status, expected in [
            ("delivered", DELIVERED),
            ("delivered", DELIVERED),
            ("sent", DELIVERED),
            ("queued", DELIVERED),
            ("undelivered", DELIVERED),
            ("something-new", DELIVERED),
            ("read", pb.EVIDENCE_READ),
        ]:
            assert await twilio.tells(message, status) == 204
            [attempt] = await attempts(world, notify, org)
            assert attempt.evidence == expected, status
        assert attempt.evidence_code == "read"
        told = escalation_pb.PAGE_OUTCOME_KIND_DELIVERED
        await until(lambda: any(each.kind == told for each in world.escalation.outcomes))
        assert sum(each.kind == told for each in world.escalation.outcomes) == 1
        assert attempt.HasField("evidence_time")
        assert await world.states("org_id = $1", org) == ["sent"]
        assert (
            notify.runtime.metrics.registry.get_sample_value(
                "tocsin_notify_receipts_total", {"channel": "sms", "evidence": "delivered"}
            )
            == 2
        )


async def test_receipts_that_nobody_signed_are_refused_before_they_are_read(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        await world.method(org, sms=ANA)
        await notify.submit(job(org))
        message = await taken(twilio)
        assert await twilio.tells(message, "failed", 30005, token="another-account") == 401
        fields = {"MessageSid": message.sid, "MessageStatus": "failed"}
        good = sign(TOKEN, message.callback, fields)
        assert (await twilio.posts(message.callback, {**fields, "ErrorCode": "30005"}, signature=good))[0] == 401
        assert (await twilio.posts(message.callback + "1", fields, signature=good))[0] == 401
        assert (await twilio.posts(PUBLIC + "/v1/twilio/status", fields, signature=""))[0] == 401
        unknown = f"{PUBLIC}/v1/twilio/status?org={org}&notification={new_id()}&attempt=1"
        assert (await twilio.posts(unknown, fields, signature=sign(TOKEN, unknown, fields)))[0] == 404
        nonsense = f"{PUBLIC}/v1/twilio/status?org={org}&notification=x&attempt=1"
        assert (await twilio.posts(nonsense, fields, signature=sign(TOKEN, nonsense, fields)))[0] == 400

        async def noted() -> bool:
            [attempt] = await attempts(world, notify, org)
            return attempt.evidence == pb.EVIDENCE_ACCEPTED

        await until(noted)
        stranger = message.callback.replace(org, new_org())
        assert (await twilio.posts(stranger, fields, signature=sign(TOKEN, stranger, fields)))[0] == 404


async def test_a_message_that_is_not_delivered_takes_the_next_method_at_once(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        first = await world.method(org, sms=ANA)
        second = await world.method(org, email="ana@example.com")
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, first, 0), (pb.URGENCY_HIGH, second, 3600))
        await notify.submit(job(org))
        message = await taken(twilio)
        assert await twilio.tells(message, "undelivered", 30005) == 204
        await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail that was due in an hour")
        assert await twilio.tells(message, "undelivered", 30005) == 204, "told twice, it fails once"
        letter = await world.row("SELECT reason, detail FROM dead_letters WHERE org_id = $1", org)
        assert letter["reason"] == "PERMANENT_FAILURE"
        assert letter["detail"].startswith(
            "the provider could not deliver it: undelivered 30005 (the number is unknown)"
        )
        [attempt] = await attempts(world, notify, org)
        assert (attempt.evidence, attempt.evidence_code) == (FAILED, "undelivered 30005")


async def test_a_failure_that_may_pass_is_tried_on_where_there_is_no_other_method(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        await world.method(org, sms=ANA)
        await notify.submit(job(org))
        message = await taken(twilio)
        assert await twilio.tells(message, "undelivered", 30003) == 204
        assert await world.states("org_id = $1", org) == ["pending"]
        reason = await world.row("SELECT state_reason FROM notifications WHERE org_id = $1", org)
        assert "the phone cannot be reached at present" in reason["state_reason"]
        await world.forward(timedelta(minutes=2))
        again = await taken(twilio, count=2)
        assert await twilio.tells(again, "delivered") == 204
        assert await world.states("org_id = $1", org) == ["sent"]


@pytest.mark.parametrize(("later", "state"), [("retryable", "pending"), ("sent", "sent"), ("started", "sent")])
async def test_an_attempt_that_was_not_delivered_counts_unless_a_later_one_was_taken(
    world: World, twilio: TwilioServer, later: str, state: str
) -> None:
    """The answer to the first one was lost, so that another one began; then a receipt said that the first was taken."""
    org = new_org()
    async with running(world, twilio) as notify:
        await world.method(org, sms=ANA)
        await notify.submit(job(org))
        message = await taken(twilio)
        await until(lambda: _states(world, org, "sent"))
        await world.admin.execute(
            """WITH other AS (UPDATE notifications SET attempts = 2 WHERE org_id = $1 RETURNING id)
               INSERT INTO attempts (org_id, notification_id, number, outcome, end_time)
               SELECT $1, id, 2, $2, CASE WHEN $2 <> 'started' THEN app_now() END FROM other""",
            org,
            later,
        )
        assert await twilio.tells(message, "undelivered", 30003) == 204
        assert await world.states("org_id = $1", org) == [state]


async def test_an_acknowledged_page_is_not_sent_elsewhere_when_its_receipt_says_that_it_failed(
    world: World, twilio: TwilioServer
) -> None:
    org, incident = new_org(), new_id()
    async with running(world, twilio) as notify:
        first = await world.method(org, sms=ANA)
        second = await world.method(org, email="ana@example.com")
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, first, 0), (pb.URGENCY_HIGH, second, 3600))
        await notify.submit(job(org, incident))
        message = await taken(twilio)
        await until(lambda: _states(world, org, "sent"))
        await notify.cancel(org, incident)
        assert await twilio.tells(message, "failed", 30005) == 204
        assert sorted(await world.states("org_id = $1", org)) == ["cancelled", "sent"]
        assert world.arrived("ana@example.com") == 0


async def test_a_receipt_proves_what_a_lost_answer_did_not_say(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    twilio.hang.add(ANA)
    twilio.reset.add(ANA)
    async with running(world, twilio, attempt_timeout=100.0, lease=120.0) as notify:
        await world.method(org, sms=ANA)
        await notify.submit(job(org))
        message = await taken(twilio)
        await world.admin.execute("INSERT INTO queue_pauses (queue) VALUES ('notify')")  # no second attempt for now
        twilio.answers()
        await until(lambda: _states(world, org, "pending"))
        assert await twilio.tells(message, "sent") == 204
        assert await world.states("org_id = $1", org) == ["sent"]
        await world.admin.execute("DELETE FROM queue_pauses")
        row = await world.row("SELECT provider_id, evidence FROM attempts WHERE org_id = $1", org)
        assert (row["provider_id"], row["evidence"]) == (message.sid, "accepted")
        await world.method(org, "users/ben", email="ben@example.com")
        await notify.submit(job(org, user="users/ben"))
        await world.inbox.wait_for(lambda m: m.address == "ben@example.com", "a page after the pause")
        assert len(twilio.to(ANA)) == 1, "it is not sent a second time"
        await until(
            lambda: any(each.kind == escalation_pb.PAGE_OUTCOME_KIND_SENT for each in world.escalation.outcomes)
        )


async def test_receipts_that_come_before_the_answer(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    twilio.hang.add(ANA)
    async with running(world, twilio, attempt_timeout=100.0, lease=120.0) as notify:
        first = await world.method(org, sms=ANA)
        second = await world.method(org, email="ana@example.com")
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, first, 0), (pb.URGENCY_HIGH, second, 3600))
        await notify.submit(job(org))
        message = await taken(twilio)
        statuses = [await twilio.tells(message, "sent"), await twilio.tells(message, "undelivered", 30005)]
        assert statuses == [204, 204]
        await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail that was due in an hour")
        twilio.answers()
        await until(
            lambda: notify.runtime.metrics.registry.get_sample_value(
                "tocsin_notify_attempts_total", {"channel": "sms", "outcome": "sent"}
            )
        )
        await until(lambda: _outcome(world, org))
        row = await world.row("SELECT state FROM notifications WHERE org_id = $1 AND channel = 'sms'", org)
        assert row["state"] == "dead", "the answer tells nothing new"


async def test_a_receipt_that_does_not_come_pulls_the_next_method_forward(world: World, twilio: TwilioServer) -> None:
    org, calm, alone = new_org(), new_org(), new_org()
    async with running(world, twilio, receipt_timeout=1800) as notify:
        for each, number in ((org, ANA), (calm, "+4915187654321")):
            first = await world.method(each, sms=number)
            second = await world.method(each, email=f"ana@{each}.example")
            await notify.set_rules(each, "users/ana", (pb.URGENCY_HIGH, first, 0), (pb.URGENCY_HIGH, second, 3600))
            await notify.submit(job(each))
        await world.method(alone, sms="+4915100000000")
        await notify.submit(job(alone))
        for each, number in ((org, ANA), (calm, "+4915187654321"), (alone, "+4915100000000")):
            message = await taken(twilio, number)
            await until(partial(_states, world, each, "sent"))
            assert await twilio.tells(message, "sent" if each != calm else "delivered") == 204
        await world.forward(timedelta(minutes=1))
        assert world.arrived(f"ana@{org}.example") == 0, "the receipt has its time"
        await world.forward(timedelta(minutes=31))
        await world.inbox.wait_for(lambda m: m.address == f"ana@{org}.example", "the mail that was due in an hour")
        row = await world.row(
            "SELECT state, state_reason FROM notifications WHERE org_id = $1 AND channel = 'sms'", org
        )
        assert row["state"] == "dead"
        assert row["state_reason"] == "no receipt within 1800 s of the provider's yes"
        letter = await world.row("SELECT detail FROM dead_letters WHERE org_id = $1", org)
        assert letter["detail"].startswith(
            "no receipt within 1800 s of the provider's yes; the page went to contactMethods/"
        )
        assert await twilio.tells(twilio.to(ANA)[0], "delivered") == 204, "late, and noted"
        [attempt] = await attempts(world, notify, org)
        assert attempt.evidence == DELIVERED
        await until(lambda: world.admin.fetchval("SELECT receipt_settled FROM notifications WHERE org_id = $1", alone))
        assert await world.states("org_id = $1", alone) == ["sent"], "there is nothing else to try"
        assert world.arrived(f"ana@{calm}.example") == 0, "it has arrived"


async def _states(world: World, org: str, state: str) -> bool:
    return state in await world.states("org_id = $1 AND channel = 'sms'", org)


async def _outcome(world: World, org: str) -> asyncpg.Record:
    return await world.row("SELECT 1 FROM attempts WHERE org_id = $1 AND provider_id <> '' AND outcome = 'sent'", org)
