"""The answer page while escalation does not answer, and when the link is too old."""

from datetime import timedelta

import aiohttp
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.incident_pb2 import INCIDENT_STATE_ACKNOWLEDGED, INCIDENT_STATE_MERGED, Incident
from tocsin_kit.auth import SigningKeys
from tocsin_kit.ids import new_id, parse_uuid_name
from tocsin_notify.domain.answer_link import AnswerLink, seal
from tocsin_notify.store.cipher import Cipher

from tests.store.notify.support import KEYS, World, job, new_org
from tests.store.round_trips import recorded

PUBLIC = "https://tocsin.example.com"


async def mailed_link(world: World) -> str:
    """The answer link in Ana's mail."""
    mail = await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the page")
    text = mail.body.decode().replace("=\r\n", "").replace("=3D", "=")
    return next(word for word in text.split() if word.startswith(PUBLIC))


async def test_nothing_is_spent_while_escalation_does_not_answer_and_old_links_only_show(world: World) -> None:
    org = new_org()
    await world.method(org, email="ana@example.com")
    async with (
        world.replica(public_url=PUBLIC, link_lifetime_seconds=3600) as notify,
        aiohttp.ClientSession() as session,
    ):
        base = f"http://127.0.0.1:{notify.runtime.http.port}"
        given = job(org)
        await notify.submit(given)
        link = (await mailed_link(world)).replace(PUBLIC, base)
        async with session.get(link) as page:
            assert page.status == 200
            assert "cannot be told at the moment" in await page.text()
        for _ in range(2):
            async with session.post(link, data={"action": "acknowledge"}, allow_redirects=False) as answer:
                assert answer.status == 503
                assert "It is not certain that this was done" in await answer.text(), "the call may have been made"
        answered = world.escalation.responders
        answered.there, answered.refuses = True, ErrorReason.ERROR_REASON_INVALID_FIELD
        async with session.post(link, data={"action": "acknowledge"}, allow_redirects=False) as answer:
            assert answer.status == 409
            assert "pressing again will not help" in await answer.text()
        answered.there, answered.refuses = False, None
        assert await world.admin.fetchval("SELECT count(*) FROM link_uses WHERE org_id = $1", org) == 0
        # Signed, but of another tenant: its own row is what a link leads to.
        key = Cipher([each for _, each in SigningKeys.parse(KEYS).keys]).link_keys[0]
        page_id = parse_uuid_name(given.page, "pages", field="page")
        for stranger in (AnswerLink(new_org(), page_id, 2**33), AnswerLink(org, new_id(), 2**33)):
            async with session.get(f"{base}/p/{seal(key, stranger)}") as page:
                assert page.status == 404
        await world.forward(timedelta(hours=2))
        async with session.get(link) as page:
            assert page.status == 410
            assert "too old" in await page.text()
            assert "<form" not in await page.text()
        async with session.post(link, data={"action": "acknowledge"}, allow_redirects=False) as answer:
            assert answer.status == 410
        assert await world.admin.fetchval("SELECT count(*) FROM link_uses WHERE org_id = $1", org) == 0


async def test_a_link_asks_escalation_for_its_action_alone(world: World) -> None:
    """A person waits for it. What the page shows is asked for by the request that shows it."""
    org = new_org()
    await world.method(org, email="ana@example.com")
    responders = world.escalation.responders
    responders.there = True
    async with world.replica(public_url=PUBLIC) as notify, aiohttp.ClientSession() as session:
        given = job(org)
        await notify.submit(given)
        link = (await mailed_link(world)).replace(PUBLIC, f"http://127.0.0.1:{notify.runtime.http.port}")
        with recorded() as trips:
            async with session.post(link, data={"action": "acknowledge"}, allow_redirects=False) as answer:
                assert answer.status == 303
        assert trips.writing({"link_uses"}) == [["BEGIN", "link_uses", "COMMIT"], ["link_uses"]]
        assert ([each.incident for each in responders.answers], responders.shown) == ([given.incident], [])
        async with session.post(link, data={"action": "acknowledge"}, allow_redirects=False) as answer:
            assert answer.status == 409
            assert "ana acknowledged it at" in await answer.text()
        assert len(responders.answers) == 1
        responders.shown.clear()
        async with session.post(link, data={"action": "knock"}) as answer:
            assert answer.status == 400
        assert responders.shown == [given.incident]


async def test_a_person_who_answers_after_another_one_is_not_said_to_have_the_incident(world: World) -> None:
    """The page said both: that Ana acknowledged it, and that Ben did. Ana could believe that it was hers."""
    org = new_org()
    await world.method(org, email="ana@example.com")
    given = job(org)
    held = Incident(
        name=given.incident, title="db down", state=INCIDENT_STATE_ACKNOWLEDGED, acknowledged_by="users/ben"
    )
    now = await world.admin.fetchval("SELECT app_now()")
    held.acknowledge_time.FromDatetime(now - timedelta(minutes=1))
    responders = world.escalation.responders
    responders.there, responders.incidents = True, [held]
    async with world.replica(public_url=PUBLIC) as notify, aiohttp.ClientSession() as session:
        await notify.submit(given)
        link = (await mailed_link(world)).replace(PUBLIC, f"http://127.0.0.1:{notify.runtime.http.port}")
        async with session.post(link, data={"action": "acknowledge"}) as page:
            text = await page.text()
        assert "ana pressed Acknowledge at" in text
        assert "Acknowledged by ben at" in text
        assert "ana acknowledged" not in text
        held.acknowledge_time.FromDatetime(now + timedelta(minutes=10))
        async with session.get(link) as page:
            assert "ana pressed Acknowledge at" in await page.text(), "escalation's clock may be ahead"
        held.acknowledged_by = "users/ana"
        async with session.get(link) as page:
            assert "ana acknowledged it at" in await page.text()


async def test_the_page_of_a_merged_incident_shows_who_has_the_one_into_which_it_was_merged(world: World) -> None:
    """It said that the incident was not answered, also to the person who had just answered it."""
    org = new_org()
    await world.method(org, email="ana@example.com")
    given, into = job(org), f"incidents/{new_id()}"
    merged = Incident(name=given.incident, title="db down", state=INCIDENT_STATE_MERGED, merged_into=into)
    held = Incident(name=into, title="rack 7", state=INCIDENT_STATE_ACKNOWLEDGED, acknowledged_by="users/ben")
    responders = world.escalation.responders
    responders.there, responders.incidents = True, [merged, held]
    async with world.replica(public_url=PUBLIC) as notify, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{notify.runtime.http.port}"
        await notify.submit(given)
        link = (await mailed_link(world)).replace(PUBLIC, base)
        async with session.get(link) as page:
            text = await page.text()
        assert "to which your answer is passed on: rack 7" in text
        assert "Acknowledged by ben at" in text
        assert 'value="acknowledge"' not in text, "somebody has it"
