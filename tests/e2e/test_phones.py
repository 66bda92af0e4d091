"""People who are woken by their phone, and answer by it; and by a reply to a mail."""

import asyncio
import itertools
import smtplib
from datetime import timedelta

from tocsin.escalation.v1 import incident_pb2
from tocsin_testkit import busy
from tocsin_testkit.busy import until
from tocsin_testkit.mail import text_of
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Tenant

_numbers = itertools.count(4915110000001)


async def with_phone(tenant: Tenant, id: str) -> Person:
    """A user who is called, and has no other contact method."""
    person = await tenant.person(id, webhook=False)
    await person.adds_phone(f"+{next(_numbers)}", call=True)
    return person


async def messages(tenant: Tenant, incident: str) -> list[str]:
    """The timeline in words."""
    return [entry.message for entry in await tenant.timeline(incident)]


async def test_a_key_stops_the_paging(tenant: Tenant) -> None:
    phones = tenant.world.phones
    ana, ben = await with_phone(tenant, "ana"), await with_phone(tenant, "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=30))
    incident = await prom.triggers("Disk full", source="db-1")
    call = await ana.is_called()
    assert call.script.says[0].startswith("Tocsin: critical incident: Disk full. Level 1.")
    assert await phones.hears(call, "human") == 204

    async def told() -> bool:
        return "call to ana delivered" in await messages(tenant, incident)

    await until(told)
    assert "acknowledged" in (await phones.presses(call, "1")).says[0]
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
    assert "acknowledged by users/ana (by phone)" in await messages(tenant, incident)
    await tenant.world.passes(minutes=31)
    assert phones.calls_to(ben.addresses[0])[1:] == [], "he got his code by phone, and no page"


async def test_two_calls_that_no_provider_takes_page_the_next_level(tenant: Tenant) -> None:
    phones = tenant.world.phones
    ana, ben = await with_phone(tenant, "ana"), await with_phone(tenant, "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=30))
    incident = await prom.triggers("Disk full", source="db-1")
    assert await phones.rings(await ana.is_called(), "no-answer") == 204
    await tenant.world.clock.forward(timedelta(minutes=2))
    again = await ana.is_called()
    assert await phones.rings(again, "completed", AnsweredBy="machine_start") == 204
    call = await ben.is_called()
    assert "Level 2" in call.script.says[0]
    await phones.presses(call, "1")
    assert (await tenant.incident(incident)).acknowledged_by == "users/ben"
    assert any("mailbox" in each for each in await messages(tenant, incident))


async def test_a_reply_to_a_mail_stops_the_paging(tenant: Tenant) -> None:
    ana, ben = await tenant.person("ana", webhook=False), await tenant.person("ben")
    await ana.adds_email()
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=30))
    incident = await prom.triggers("Disk full", source="db-1")
    page = await ana.is_paged(incident, level=1)
    address = dict(page.headers)["Reply-To"]

    def replies(text: str) -> None:
        with smtplib.SMTP("127.0.0.1", tenant.world.reply_port, timeout=busy.within(20)) as smtp:
            smtp.sendmail("ana@example.org", address, f"Subject: Re: {page.subject}\r\n\r\n{text}\r\n> resolve\r\n")

    await asyncio.to_thread(replies, "ack")
    assert text_of(await ana.is_answered()).startswith("Acknowledged.")
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
    await asyncio.to_thread(replies, "note the writer hangs")
    assert text_of(await ana.is_answered()).startswith("Noted.")
    said = await messages(tenant, incident)
    assert "acknowledged by users/ana (by email)" in said
    assert "by email: the writer hangs" in said
    await tenant.world.passes(minutes=31)
    assert ben.pages(incident) == []
