"""Calls over real sockets: what is said, who was reached, and who may tell."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.ids import new_id
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.voice import VoiceChannel
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.twilio import ACCOUNT, SENDER, TOKEN, Call, TwilioServer, error, sign

from tests.store.notify.phones import ANA, BEN, PUBLIC, called, evidence, proven, running
from tests.store.notify.support import ALLOWED, Notify, World, job, new_org, until


async def with_mail_behind(world: World, notify: Notify, org: str) -> None:
    """Ana is called at once, and gets a mail an hour later."""
    first = await world.method(org, voice=ANA)
    second = await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, first, 0), (pb.URGENCY_HIGH, second, 3600))


async def send(
    twilio: TwilioServer, *, callbacks: str = PUBLIC, caller: str = SENDER, kind: Kind = Kind.NEW_INCIDENT
) -> Outcome:
    """One attempt by the channel alone."""
    account = TwilioAccount(ACCOUNT, (TOKEN,), SENDER, twilio.url, caller=caller)
    channel = VoiceChannel(account, CallbackUrls(callbacks), timeout=20.0, concurrency=1)
    given = pb.NotificationJob(
        page="pages/1", user="users/ana", incident="incidents/1", title="Disk <full> & hot", level=1
    )
    delivery = Delivery(
        "k",
        uuid.uuid4(),
        "acme",
        kind,
        given,
        Target(Channel.VOICE, ANA),
        1,
        datetime(2026, 1, 2, tzinfo=UTC),
        "123456",
    )
    try:
        return await channel.send(delivery, ALLOWED)
    finally:
        await channel.close()


async def test_what_is_asked_of_the_provider(twilio: TwilioServer) -> None:
    assert await send(twilio) == Sent(twilio.calls[0].sid)
    call = twilio.calls[0]
    assert call.value("StatusCallback").startswith(f"{PUBLIC}/v1/twilio/call?org=acme&notification=")
    assert [value for name, value in call.fields if name == "StatusCallbackEvent"] == [
        "ringing",
        "answered",
        "completed",
    ]
    assert (call.value("MachineDetection"), call.value("AsyncAmd"), call.value("Timeout")) == ("Enable", "true", "30")
    read = "Tocsin: critical incident: Disk <full> & hot. Level 1. Press 1 to acknowledge."
    assert len(call.script.says) == 2
    assert all(each.startswith(read) for each in call.script.says)
    assert call.script.action.startswith(f"{PUBLIC}/v1/twilio/key?")

    await send(twilio, callbacks="")
    assert twilio.calls[1].script.action == ""
    assert "answer in Tocsin" in twilio.calls[1].script.says[-1]
    assert not twilio.calls[1].value("MachineDetection")
    await send(twilio, kind=Kind.VERIFICATION)
    assert twilio.calls[2].script.says[0] == "Your Tocsin verification code is: 1. 2. 3. 4. 5. 6."
    await send(twilio, kind=Kind.RESOLUTION)
    assert twilio.calls[3].script.action == "", "news take no key"


async def test_what_a_refusal_means(twilio: TwilioServer) -> None:
    for status, code, expected in [
        (400, 21211, Permanent),
        (400, 21216, Permanent),
        (400, 21215, Retryable),
        (400, 21210, Retryable),
        (429, 20429, Retryable),
        (429, 10004, Retryable),
        (503, 0, Retryable),
    ]:
        twilio.refuse[ANA] = [error(status, code)]
        outcome = await send(twilio)
        assert isinstance(outcome, expected), (code, outcome)
    twilio.refuse[ANA] = [error(400, 21205)]
    assert isinstance(await send(twilio), Sent), "a call without a receipt is better than none"
    assert not twilio.calls[0].value("StatusCallback")
    assert isinstance(await send(twilio, caller=""), Permanent)
    twilio.reset.add(ANA)
    assert isinstance(await send(twilio), Retryable)


async def test_a_number_is_verified_by_a_call(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        wanted = contact_pb.ContactMethod(user="users/ana", voice=contact_pb.VoiceContact(number="+49 151 123-456 78"))
        method = await proven(world, notify, org, wanted, ANA)
        assert method.voice.number == ANA


async def test_a_phone_that_rings_for_an_answered_incident_is_hung_up(world: World, twilio: TwilioServer) -> None:
    """Ben acknowledges while ana's phone rings, while she listens, and after her call: only the first one is hung up."""
    org = new_org()
    incidents = {status: new_id() for status in ("ringing", "in-progress", "completed")}
    async with running(world, twilio) as notify:
        await world.method(org, voice=ANA)
        calls: dict[str, Call] = {}

        async def noted() -> bool:
            return await world.states("org_id = $1", org) == ["sent"] * len(calls)

        async def told() -> bool:
            open_ = "SELECT count(*) FROM cancel_fences WHERE org_id = $1 AND NOT followed"
            return not await world.admin.fetchval(open_, org)

        for number, (status, incident) in enumerate(incidents.items(), 1):
            await notify.submit(job(org, incident))
            calls[status] = await called(twilio, count=number)
            await until(noted)
            if status != "ringing":
                assert await twilio.rings(calls[status], status) == 204
        twilio.refuse[calls["ringing"].sid] = [error(503, 20503)]
        for incident in incidents.values():
            await notify.cancel(org, incident, reason="acknowledged by users/ben")
        await until(lambda: calls["ringing"].status == "canceled")
        await until(told)
        assert (calls["in-progress"].status, calls["completed"].status) == ("in-progress", "completed")
        assert await twilio.rings(calls["ringing"], "canceled") == 204
        assert len(twilio.calls) == 3
        assert "pending" not in await world.states("org_id = $1", org), "nobody is called again for it"


async def test_an_answer_that_cannot_be_taken_is_said_so(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        await world.method(org, voice=ANA)
        await notify.submit(job(org))
        call = await called(twilio)
        first, answered = call.script, world.escalation.responders
        for refused, words, more in [
            (ErrorReason.ERROR_REASON_INCIDENT_RESOLVED, "the incident is over", False),
            (ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND, "the incident is over", False),
            (ErrorReason.ERROR_REASON_INCIDENT_STATE, "merged into another one", False),
            (ErrorReason.ERROR_REASON_NO_NEXT_LEVEL, "no further level", True),
            (ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED, "not certain", True),
            (ErrorReason.ERROR_REASON_INVALID_FIELD, "pressing again will not help", False),
        ]:
            answered.refuses, call.script = refused, first
            said = await twilio.presses(call, "2")
            assert words in said.says[0]
            assert bool(said.action) is more
        answered.refuses, answered.there, call.script = None, False, first
        assert "Press 1 again" in (await twilio.presses(call, "1")).says[0]
        answered.there, call.script = True, first
        await twilio.presses(call, "1")
        assert [each[0] for each in answered.acted] == ["acknowledge"]
        await world.forward(timedelta(days=2))
        call.script = first
        assert "too old" in (await twilio.presses(call, "2")).says[0]
        assert len(answered.acted) == 1


@pytest.mark.parametrize(
    ("status", "more", "code", "permanent"),
    [
        ("busy", {}, "busy", False),
        ("no-answer", {}, "no-answer", False),
        ("failed", {"SipResponseCode": "503"}, "failed 503", False),
        ("failed", {"SipResponseCode": "404"}, "failed 404", True),
        ("completed", {"AnsweredBy": "machine_start"}, "completed machine_start", False),
        ("completed", {"AnsweredBy": "fax"}, "completed fax", False),
        ("completed", {"AnsweredBy": "unknown"}, "completed unknown", False),
        ("completed", {}, "completed", False),
    ],
)
async def test_a_call_that_reached_no_user_takes_the_next_method_at_once(
    world: World, twilio: TwilioServer, status: str, more: dict[str, str], code: str, permanent: bool
) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        await with_mail_behind(world, notify, org)
        await notify.submit(job(org))
        call = await called(twilio)
        assert await twilio.rings(call, "ringing") == 204
        assert await twilio.rings(call, status, **more) == 204
        await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail that was due in an hour")
        assert await evidence(world, org) == ("failed", code)
        letter = await world.row("SELECT reason FROM dead_letters WHERE org_id = $1", org)
        assert (letter["reason"] == "PERMANENT_FAILURE") is permanent


async def test_a_call_of_which_nothing_more_is_heard_takes_the_next_method_at_its_time_out(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with running(world, twilio, receipt_timeout_seconds=1800) as notify:
        await with_mail_behind(world, notify, org)
        await notify.submit(job(org))
        assert await twilio.rings(await called(twilio), "ringing") == 204
        await world.forward(timedelta(minutes=31))
        await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail that was due in an hour")
        row = await world.row("SELECT state_reason FROM notifications WHERE org_id = $1 AND channel = 'voice'", org)
        assert row["state_reason"] == "no receipt within 1800 s of the provider's yes"


async def test_a_person_who_hears_the_call_is_reached_and_a_mailbox_is_not(world: World, twilio: TwilioServer) -> None:
    org, other = new_org(), new_org()
    async with running(world, twilio) as notify:
        await with_mail_behind(world, notify, org)
        await notify.submit(job(org))
        call = await called(twilio)
        assert await twilio.hears(call, "unknown") == 204
        assert await twilio.hears(call, "human") == 204
        assert await twilio.rings(call, "completed", CallDuration="20") == 204, (
            "nobody pressed a key, and somebody heard it"
        )
        assert await evidence(world, org) == ("delivered", "human")
        told = escalation_pb.PAGE_OUTCOME_KIND_DELIVERED
        await until(lambda: any(each.kind == told for each in world.escalation.outcomes))
        assert world.arrived("ana@example.com") == 0

        await world.method(other, voice=BEN)
        await notify.submit(job(other))
        call = await called(twilio, BEN)
        assert await twilio.hears(call, "machine_start") == 204
        assert await world.states("org_id = $1", other) == ["pending"], (
            "it is called once more: some phones ring only then"
        )
        await world.forward(timedelta(minutes=2))
        call = await called(twilio, BEN, count=2)
        assert await twilio.rings(call, "no-answer") == 204
        assert await world.states("org_id = $1", other) == ["dead"], "and no third time"
        failed = escalation_pb.PAGE_OUTCOME_KIND_FAILED
        await until(lambda: any(each.kind == failed and each.org_id == other for each in world.escalation.outcomes))


async def test_attempts_that_never_rang_are_no_first_call(world: World, twilio: TwilioServer) -> None:
    """Some phones let through only the second call in a row."""
    org = new_org()
    twilio.refuse[ANA] = [error(503, 20503), error(503, 20503)]
    async with running(world, twilio) as notify:
        await world.method(org, voice=ANA)
        await notify.submit(job(org))
        assert await twilio.rings(await called(twilio), "no-answer") == 204
        assert await world.states("org_id = $1", org) == ["pending"], "it is called once more"
        await world.forward(timedelta(minutes=2))
        assert await twilio.rings(await called(twilio, count=2), "no-answer") == 204
        assert await world.states("org_id = $1", org) == ["dead"]


async def test_what_is_unsigned_presses_no_key(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        await world.method(org, voice=ANA)
        await notify.submit(job(org))
        call = await called(twilio)
        url, fields = call.script.action, {"CallSid": call.sid, "Digits": "2"}
        good = sign(TOKEN, url, {**fields, "Digits": "1"})
        for target, given, signature in [
            (url, fields, ""),
            (url, fields, good),
            (url, fields, sign("another-account", url, fields)),
            (url.replace(org, new_org()), fields, sign(TOKEN, url, fields)),
            (call.value("StatusCallback"), {"CallStatus": "no-answer"}, ""),
        ]:
            assert (await twilio.posts(target, given, signature=signature))[0] == 401
        stranger = url.replace(org, new_org())
        status, text = await twilio.posts(stranger, fields, signature=sign(TOKEN, stranger, fields))
        assert (status, "no longer known" in text) == (200, True)
        assert world.escalation.responders.answers == []
        status_url = call.value("StatusCallback").replace(org, new_org())
        lost = {"CallStatus": "no-answer", "CallSid": call.sid}
        assert (await twilio.posts(status_url, lost, signature=sign(TOKEN, status_url, lost)))[0] == 404


async def test_no_user_is_called_to_hear_that_it_is_over(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        await world.method(org, voice=ANA)
        await world.method(org, "users/ben", voice=BEN)
        await world.method(org, "users/ben", email="ben@example.com")
        news = pb.NOTIFICATION_TYPE_RESOLUTION
        await notify.submit(job(org, type=news), job(org, user="users/ben", type=news))
        await world.inbox.wait_for(lambda m: m.address == "ben@example.com", "news by mail")
        assert twilio.calls == []
        assert await world.admin.fetchval("SELECT count(*) FROM dead_letters WHERE org_id = $1", org) == 0
