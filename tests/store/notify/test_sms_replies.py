"""People answer by text message over real sockets: with codes, in their own words, STOP, START; and strangers write as well."""

import asyncio
import re
import uuid
from datetime import timedelta
from functools import partial

import pytest
from pydantic import ValidationError
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.domain.sms_reply import code_of
from tocsin_testkit.twilio import TwilioServer

from tests.store.notify.phones import ANA, BEN, PUBLIC, running
from tests.store.notify.support import Notify, World, bearer, job, new_org, reads, until

URL = PUBLIC + "/v1/twilio/reply"
CODE = re.compile(r"Reply (\d{1,3})a to ack, \1e to escalate\.$")

# Incidents that sort before every random one.
OLDER_PAGES = """
INSERT INTO pages SELECT made.* FROM pages p, generate_series(1, $2::int) AS n,
  lpad(n::text, 32, '0') AS other, jsonb_populate_record(p, jsonb_build_object('id', other, 'incident', other)) AS made
WHERE p.org_id = $1
"""
OLDER_NOTIFICATIONS = """
INSERT INTO notifications SELECT made.* FROM notifications n, pages p, jsonb_populate_record(n, jsonb_build_object(
  'id', p.id, 'page_id', p.id, 'incident', p.id, 'create_time', n.create_time - interval '1 minute')) AS made
WHERE n.org_id = $1 AND p.org_id = $1 AND p.id <> n.page_id
"""


async def texted(twilio: TwilioServer, number: str = ANA, count: int = 1) -> str:
    """The code in the latest of so many messages."""
    await until(lambda: len(twilio.to(number)) >= count)
    found = CODE.search(twilio.to(number)[count - 1].body)
    assert found is not None, twilio.to(number)[count - 1].body
    return found[1]


async def says(twilio: TwilioServer, text: str, number: str = ANA, **more: str) -> str:
    status, answer = await twilio.receives(number, text, URL, **more)
    assert status == 200
    return answer


async def paged(world: World, notify: Notify, twilio: TwilioServer, org: str, count: int = 1) -> tuple[uuid.UUID, str]:
    """One more page; its incident and code."""
    incident = uuid.uuid4()
    await notify.submit(job(org, incident))
    return incident, await texted(twilio, count=count)


@pytest.mark.parametrize(
    ("words", "action", "said"),
    [
        ("{}a", "acknowledge", "Acknowledged. Disk full on db-1"),
        ("Esc {}", "escalate", "The next level is paged. Disk full on db-1"),
        ("{} r", "resolve", "Resolved. Disk full on db-1"),
        ("ack", "acknowledge", "Acknowledged. Disk full on db-1"),
    ],
)
async def test_a_reply_answers_for_the_person_whose_number_it_is(
    world: World, twilio: TwilioServer, words: str, action: str, said: str
) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        await world.method(org, sms=ANA)
        incident, code = await paged(world, notify, twilio, org)
        for _ in range(2):  # the provider tells it twice
            assert await says(twilio, words.format(code), sid="SM1") == said
        answered = world.escalation.responders
        assert answered.acted == [(action, "users/ana", "sms")], "told twice, it acts once"
        assert answered.answers[0].incident == f"incidents/{incident}"
        row = await world.row("SELECT evidence, evidence_code FROM attempts WHERE org_id = $1", org)
        assert tuple(row) == ("answered", f"reply {action}")


async def test_a_reply_that_is_told_again_means_what_it_meant_at_first(world: World, twilio: TwilioServer) -> None:
    """A later page of the incident, another incident, and time that passes would give it another meaning."""
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        await world.method(org, sms=ANA)
        incident, _ = await paged(world, notify, twilio, org)
        said = await says(twilio, "e", sid="SM1")
        assert said == "The next level is paged. Disk full on db-1"
        again = job(org, incident, type=pb.NOTIFICATION_TYPE_ESCALATION, generation=2, level=2)
        await notify.submit(again)
        await texted(twilio, count=2)
        assert await says(twilio, "e", sid="SM1") == said
        await world.forward(timedelta(hours=2))
        await paged(world, notify, twilio, org, count=3)
        told = await asyncio.gather(*(says(twilio, "e", sid="SM1") for _ in range(3)))
        assert told == [said] * 3
        assert world.escalation.responders.acted == [("escalate", "users/ana", "sms")]
        assert {each.incident for each in world.escalation.responders.answers} == {f"incidents/{incident}"}


async def test_what_is_not_understood_and_stop_and_start_count_once_when_they_are_told_again(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True):
        sms = await world.method(org, sms=ANA)
        answers = await asyncio.gather(*(says(twilio, "hello", BEN, sid="SM9") for _ in range(7)))
        assert len(set(answers)) == 1
        assert answers[0]
        assert await world.admin.fetchval("SELECT answers FROM sms_senders WHERE number = $1", BEN) == 1
        for text, sid, off in [
            ("STOP", "S1", True),
            ("START", "S2", False),
            ("STOP", "S3", True),
            ("START", "S2", True),
        ]:
            assert await says(twilio, text, sid=sid) == ""
            row = await world.row("SELECT disabled, stop_time FROM contact_methods WHERE id = $1", sms)
            assert (row["disabled"], row["stop_time"] is not None) == (off, off), (text, sid)


async def test_a_person_who_answers_is_told_in_their_language(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        await world.method(org, sms=ANA)
        await reads(notify, org, "users/ana", "de")
        given = job(org)
        await notify.submit(given)
        await until(lambda: len(twilio.to(ANA)) == 1)
        another = code_of(uuid.UUID(given.incident.removeprefix("incidents/")), ANA) % 999 + 1
        assert (await says(twilio, f"{another}e")).startswith("Es wurde nichts getan: ")
        assert (await says(twilio, "what is this?")).startswith("Antworten Sie mit dem Code des Alarms")
        assert await says(twilio, "a") == "Übernommen. Disk full on db-1"
        assert (await says(twilio, "a", BEN)).startswith("This number is nobody's here."), "nobody's language is known"


async def test_of_several_the_code_says_which_and_without_one_nothing_is_done(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        await world.method(org, sms=ANA)
        first, code = await paged(world, notify, twilio, org)
        second, other = await paged(world, notify, twilio, org, count=2)
        while other == code:
            second, other = await paged(world, notify, twilio, org, count=len(twilio.to(ANA)) + 1)
        said = await says(twilio, "ack")
        assert said.startswith("Nothing was done: say which. ")
        assert f"{code} Disk full on db-1" in said
        assert world.escalation.responders.acted == []
        await says(twilio, f"{other}a")
        assert world.escalation.responders.answers[0].incident == f"incidents/{second}"
        await notify.cancel(org, first)
        assert (await says(twilio, "a")).startswith("Nothing was done: say which. "), (
            "the other may not be on the phone yet"
        )
        assert len(world.escalation.responders.answers) == 1
        await world.forward(timedelta(hours=2))
        said = await says(twilio, "a")
        assert said.startswith("Nothing was done: say which. "), "nothing was sent lately"
        assert f"{other} Disk full on db-1" in said
        assert f"{code} " not in said
        assert len(world.escalation.responders.answers) == 1


async def test_of_more_incidents_than_are_looked_at_the_newest_count(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        await world.method(org, sms=ANA)
        _, code = await paged(world, notify, twilio, org)
        await world.admin.execute(OLDER_PAGES, org, 1000)
        await world.admin.execute(OLDER_NOTIFICATIONS, org)
        said = await says(twilio, "a")
        assert said.startswith(f"Nothing was done: say which. {code} Disk full on db-1; ")
        assert said.endswith("; and 997 more")


async def test_what_cannot_be_done_is_said_so(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        await world.method(org, sms=ANA)
        _, code = await paged(world, notify, twilio, org)
        answered = world.escalation.responders
        for refused, words in [
            (ErrorReason.ERROR_REASON_INCIDENT_RESOLVED, "Nothing was done: the incident is over."),
            (ErrorReason.ERROR_REASON_INCIDENT_STATE, "the incident is merged into another one. Act on that one."),
            (ErrorReason.ERROR_REASON_NO_NEXT_LEVEL, "Nothing was done: there is no further level."),
            (ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED, "Send it again."),
        ]:
            answered.refuses = refused
            assert words in await says(twilio, f"{code}e")
        answered.refuses = None
        for other in (int(code) % 999 + 1, 0):
            assert await says(twilio, f"{other}a") == "Nothing was done: no page of today has this code."
        assert (await says(twilio, "what is this?")).startswith("Answer a page with its code and a letter")
        await world.forward(timedelta(days=2))
        assert await says(twilio, f"{code}a") == "Nothing was done: no page of today has this code."
        assert answered.acted == []


async def test_only_what_was_sent_to_a_number_that_is_proven_is_meant(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        sms = await world.method(org, sms=ANA)
        later = await world.method(org, "users/later", sms=ANA)
        mail = await world.method(org, "users/later", email="later@example.com")
        await notify.set_rules(org, "users/later", (pb.URGENCY_HIGH, mail, 0), (pb.URGENCY_HIGH, later, 3600))
        incident, code = await paged(world, notify, twilio, org)
        await notify.submit(job(org, user="users/later"))
        assert await says(twilio, "a") == "Acknowledged. Disk full on db-1", "the other one is not on the phone yet"
        assert {each.incident for each in world.escalation.responders.answers} == {f"incidents/{incident}"}
        await world.admin.execute("UPDATE contact_methods SET verify_time = NULL WHERE id = $1", sms)
        assert await says(twilio, f"{code}e") == "Nothing was done: no page of today has this code."
        assert len(world.escalation.responders.answers) == 1
        await world.method(org, "", sms=BEN)
        assert (await says(twilio, "hello", BEN)).startswith("This number is nobody's here.")


async def test_strangers_are_answered_five_times_and_no_more_also_at_once(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True):
        await world.method(org, sms=BEN, verified=False)
        answers = await asyncio.gather(*(says(twilio, "1a", BEN) for _ in range(12)))
        assert (
            sorted(answers)
            == [""] * 7 + ["This number is nobody's here. Add it to your contact methods in Tocsin and verify it."] * 5
        )
        assert await says(twilio, "hello", BEN) == ""
        assert (await says(twilio, "hello", "+4915100000000")) != "", "each number has its own"
        assert world.escalation.responders.answers == []


async def test_two_machines_that_answer_each_other_end_and_a_person_starts_anew(
    world: World, twilio: TwilioServer
) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        await world.method(org, sms=ANA)
        _, code = await paged(world, notify, twilio, org)
        answers = [await says(twilio, "I am on holiday.") for _ in range(8)]
        assert [bool(answer) for answer in answers] == [True] * 5 + [False] * 3
        assert (await says(twilio, f"{code}a")).startswith("Acknowledged.")
        assert await says(twilio, "thanks") != ""


async def test_stop_is_obeyed_by_all_tenants_until_start(world: World, twilio: TwilioServer) -> None:
    org, other = new_org(), new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        sms = await world.method(org, sms=ANA)
        mail = await world.method(org, email="ana@example.com")
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, sms, 0))
        await world.method(other, sms=ANA)
        off = await world.method(other, "users/second", sms=ANA, disabled=True)
        assert await says(twilio, "STOP") == "", "the provider answers it"
        assert await says(twilio, "stop") == ""
        await notify.submit(job(org), job(other))
        await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the mail instead")
        await until(partial(_letters, world, other))
        assert twilio.to(ANA) == []
        listed = await notify.contacts.ListContactMethods(contact_pb.ListContactMethodsRequest(), metadata=bearer(org))
        shown = {each.name: each.disabled for each in listed.contact_methods}
        assert shown == {f"contactMethods/{sms}": True, f"contactMethods/{mail}": False}
        assert await says(twilio, "Start") == ""
        await notify.submit(job(org), job(other))
        await until(lambda: len(twilio.to(ANA)) == 2)
        row = await world.row("SELECT disabled FROM contact_methods WHERE id = $1", off)
        assert row["disabled"], "its user switched it off, and not the phone"


async def _letters(world: World, org: str) -> bool:
    return bool(await world.admin.fetchval("SELECT count(*) FROM dead_letters WHERE org_id = $1", org))


async def test_what_a_user_switched_off_meanwhile_stays_off(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        sms = await world.method(org, sms=ANA)
        await says(twilio, "STOP")
        for disabled in (False, True):
            request = contact_pb.UpdateContactMethodRequest(
                contact_method=contact_pb.ContactMethod(name=f"contactMethods/{sms}", disabled=disabled)
            )
            request.update_mask.paths.append("disabled")
            await notify.contacts.UpdateContactMethod(request, metadata=bearer(org))
        await says(twilio, "START")
        assert (await world.row("SELECT disabled FROM contact_methods WHERE id = $1", sms))["disabled"]


async def test_what_is_unsigned_answers_no_page(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio, TWILIO_REPLIES=True) as notify:
        await world.method(org, sms=ANA)
        _, code = await paged(world, notify, twilio, org)
        assert (await twilio.receives(ANA, f"{code}a", URL, token="another"))[0] == 401
        assert (await twilio.receives(ANA, "STOP", URL, token="another"))[0] == 401
        assert await says(twilio, f"{code}a", "12345") == "", "a short code is nobody's phone"
        assert await says(twilio, f"{code}a", BEN) != ""
        assert world.escalation.responders.answers == []
        row = await world.row("SELECT disabled FROM contact_methods WHERE org_id = $1", org)
        assert not row["disabled"]


async def test_without_the_setting_messages_name_no_code(world: World, twilio: TwilioServer) -> None:
    org = new_org()
    async with running(world, twilio) as notify:
        await world.method(org, sms=ANA)
        await notify.submit(job(org))
        await until(lambda: len(twilio.to(ANA)) == 1)
        assert "Reply" not in twilio.to(ANA)[0].body
        with pytest.raises(ValidationError, match="TWILIO_REPLIES needs NOTIFY_PUBLIC_URL"):
            async with world.replica(**twilio.settings(), TWILIO_REPLIES=True):
                pass
