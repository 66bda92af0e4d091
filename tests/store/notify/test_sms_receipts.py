"""What Twilio says of a text message later: receipts, late, forged, early, lost."""

from datetime import timedelta
from functools import partial

import asyncpg
import pytest
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.ids import new_id
from tocsin_testkit.twilio import TOKEN, TwilioServer, sign

from tests.store.notify.phones import ANA, PUBLIC, attempts, running, taken
from tests.store.notify.support import World, job, new_org, until

FAILED = pb.EVIDENCE_FAILED
DELIVERED = pb.EVIDENCE_DELIVERED


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


async def test_unsigned_receipts_are_refused_before_they_are_read(world: World, twilio: TwilioServer) -> None:
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
        await until(lambda: _states(world, org, "sent"))
        assert await twilio.tells(message, "undelivered", 30003) == 204
        assert await world.states("org_id = $1", org) == ["pending"]
        reason = await world.row("SELECT state_reason FROM notifications WHERE org_id = $1", org)
        assert "the phone cannot be reached at present" in reason["state_reason"]
        await world.forward(timedelta(minutes=2))
        again = await taken(twilio, count=2)
        await until(lambda: _states(world, org, "sent"))
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
    async with running(world, twilio, attempt_timeout_seconds=100.0, lease_seconds=120.0) as notify:
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
    async with running(world, twilio, attempt_timeout_seconds=100.0, lease_seconds=120.0) as notify:
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
    async with running(world, twilio, receipt_timeout_seconds=1800) as notify:
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
