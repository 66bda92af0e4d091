"""The answer page while escalation does not answer, and when the link is too old."""

from datetime import timedelta

import aiohttp
from tocsin_kit.auth import SigningKeys
from tocsin_kit.ids import new_id, parse_uuid_name
from tocsin_notify.domain.answer_link import AnswerLink, seal
from tocsin_notify.store.cipher import Cipher

from tests.store.notify.support import KEYS, World, job, new_org

PUBLIC = "https://tocsin.example.com"


async def test_nothing_is_spent_while_escalation_does_not_answer_and_old_links_only_show(world: World) -> None:
    org = new_org()
    await world.method(org, email="ana@example.com")
    async with world.replica(public_url=PUBLIC, link_lifetime=3600) as notify, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{notify.runtime.http.port}"
        given = job(org)
        await notify.submit(given)
        mail = await world.inbox.wait_for(lambda m: m.address == "ana@example.com", "the page")
        text = mail.body.decode().replace("=\r\n", "").replace("=3D", "=")
        link = next(word for word in text.split() if word.startswith(PUBLIC)).replace(PUBLIC, base)
        async with session.get(link) as page:
            assert page.status == 200
            assert "cannot be told at the moment" in await page.text()
        for _ in range(2):
            async with session.post(link, data={"action": "acknowledge"}, allow_redirects=False) as answer:
                assert answer.status == 503
                assert "does not answer" in await answer.text()
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
