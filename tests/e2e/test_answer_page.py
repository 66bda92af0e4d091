"""A person who was woken answers by the link in the message, with a browser that runs no script."""

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tocsin.escalation.v1 import incident_pb2
from tocsin_testkit.installation import PUBLIC_URL
from tocsin_testkit.received import Received
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

TITLE = 'Disk <b>"full"</b> on db-1 & db-2'


class Browser:
    """Opens public URLs, and presses buttons."""

    def __init__(self, world: World, session: aiohttp.ClientSession) -> None:
        self._notify = world.notify_url
        self._session = session
        self.url = ""
        self.text = ""
        self.headers: dict[str, str] = {}

    async def opens(self, url: str, method: str = "GET") -> int:
        """The status; the page is in `text`."""
        self.url = url
        async with self._session.request(method, self._real(url), allow_redirects=False) as response:
            self.text, self.headers = await response.text(), dict(response.headers)
            return response.status

    async def presses(self, action: str, *, encoding: str = "identity", **fields: str) -> int:
        """The status of the POST; a redirect is followed as a browser does it, with a GET."""
        data = {"action": action, **fields}
        headers = {"Content-Encoding": encoding}
        async with self._session.post(
            self._real(self.url), data=data, headers=headers, allow_redirects=False
        ) as response:
            status = response.status
            self.text, self.headers = await response.text(), dict(response.headers)
        if status == 303:
            assert await self.opens(f"{self.url.rpartition('/')[0]}/{self.headers['Location']}") == 200
        return status

    @property
    def buttons(self) -> list[str]:
        """What can be done from here."""
        return re.findall(r'name="action" value="(\w+)"', self.text)

    @property
    def says(self) -> str:
        """The page as people read it."""
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", self.text.partition("</style>")[2])).split())

    def _real(self, url: str) -> str:
        assert url.startswith(PUBLIC_URL)
        return self._notify + url.removeprefix(PUBLIC_URL)


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession() as session:
        yield Browser(world, session)


def link_of(page: Received) -> str:
    """The link in a webhook."""
    return str(json.loads(page.body)["answer_url"])


async def paged(tenant: Tenant) -> tuple[str, str]:
    """Ana is paged, and ben is the next level: the incident, and ana's link."""
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=30))
    incident = await prom.triggers(TITLE, source="db-1")
    return incident, link_of(await ana.is_paged(incident))


async def messages(tenant: Tenant, incident: str) -> list[str]:
    """The timeline in words."""
    return [entry.message for entry in await tenant.timeline(incident)]


async def test_a_link_shows_and_acts_once(tenant: Tenant, browser: Browser) -> None:
    incident, link = await paged(tenant)
    for method in ("GET", "HEAD", "GET"):  # scanners and previews
        assert await browser.opens(link, method) == 200
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_TRIGGERED
    assert "Page for ana" in browser.says
    assert TITLE in browser.says
    assert "<b>" not in browser.text
    assert "Nobody has it in hand. Paged at level 1: ana." in browser.says
    assert browser.buttons == ["acknowledge", "escalate", "snooze", "resolve", "note"]
    assert "<script" not in browser.text
    assert browser.headers["Cache-Control"] == "no-store"
    assert browser.headers["Referrer-Policy"] == "no-referrer"
    assert browser.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")

    assert await browser.presses("acknowledge") == 303
    assert "ana acknowledged it at" in browser.says
    assert "Acknowledged by ana at" in browser.says
    held = await tenant.incident(incident)
    assert (held.state, held.acknowledged_by) == (incident_pb2.INCIDENT_STATE_ACKNOWLEDGED, "users/ana")
    assert "acknowledged by users/ana (by link)" in await messages(tenant, incident)
    following = browser.url

    assert await browser.opens(link) == 200
    assert "ana acknowledged it at" in browser.says
    assert "This link was used" in browser.says
    assert browser.buttons == []
    assert await browser.presses("resolve") == 409
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED

    await browser.opens(following)
    assert await browser.presses("note", text="restarted\r\nthe writer") == 303
    assert "by link: restarted\nthe writer" in await messages(tenant, incident)
    assert await browser.presses("resolve") == 303
    assert "Resolved by ana at" in browser.says
    assert browser.buttons == ["note"]
    assert await browser.presses("acknowledge") == 409
    assert "the incident is over" in browser.says
    assert (await tenant.incident(incident)).resolved_by == "users/ana"


async def test_a_link_that_was_used_for_a_note_still_acknowledges(tenant: Tenant, browser: Browser) -> None:
    """The phone has dropped the page that followed; the message with the link is still there."""
    incident, link = await paged(tenant)
    for text in ("on my way", "at the laptop"):
        await browser.opens(link)
        if browser.headers.get("Location"):
            await browser.opens(f"{link.rpartition('/')[0]}/{browser.headers['Location']}")
        assert await browser.presses("note", text=text) == 303
    assert await browser.opens(link) == 303
    await browser.opens(f"{link.rpartition('/')[0]}/{browser.headers['Location']}")
    assert await browser.presses("acknowledge") == 303
    assert (await tenant.incident(incident)).acknowledged_by == "users/ana"
    assert await browser.opens(link) == 303
    await browser.opens(f"{link.rpartition('/')[0]}/{browser.headers['Location']}")
    assert "ana acknowledged it at" in browser.says
    assert browser.buttons == []


async def test_i_cannot_pages_the_next_level(tenant: Tenant, browser: Browser) -> None:
    incident, link = await paged(tenant)
    await browser.opens(link)
    assert await browser.presses("escalate") == 303
    ben = tenant.everybody["ben"]
    bens = link_of(await ben.is_paged(incident, level=2))
    assert "escalated to level 2 by users/ana (by link)" in await messages(tenant, incident)
    assert "Paged at level 2: ben." in browser.says
    assert await browser.presses("escalate") == 409
    assert "there is no further level" in browser.says
    assert "escalate" in browser.buttons, "nothing was done, so the link is as good as before"
    await browser.opens(bens)
    assert "Page for ben" in browser.says
    assert await browser.presses("acknowledge") == 303
    assert (await tenant.incident(incident)).acknowledged_by == "users/ben"
    await tenant.everybody["ana"].is_told(incident, "acknowledgment")


async def test_not_now_pages_again_when_the_time_is_over(tenant: Tenant, browser: Browser) -> None:
    incident, link = await paged(tenant)
    await browser.opens(link)
    assert "Not now: page again in 15 min 30 min 1 h 4 h" in browser.says
    for minutes in ("", "7", "-15", "15 "):
        assert await browser.presses("snooze", minutes=minutes) == 400
    assert await browser.presses("snooze", minutes="15") == 303
    assert "ana snoozed it at" in browser.says
    assert "Snoozed: nobody is paged. Paged again at" in browser.says
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_SNOOZED
    assert any(
        re.search("snoozed until .+ by users/ana \\(by link\\)", said) for said in await messages(tenant, incident)
    )
    await tenant.passes(minutes=14)
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_SNOOZED
    await tenant.passes(minutes=1)
    await tenant.everybody["ana"].is_paged(incident)


async def test_two_answers_at_once_are_one(world: World, tenant: Tenant, browser: Browser) -> None:
    incident, link = await paged(tenant)
    async with aiohttp.ClientSession() as session:
        other = Browser(world, session)
        await browser.opens(link)
        await other.opens(link)
        statuses = await asyncio.gather(browser.presses("acknowledge"), other.presses("escalate"))
    assert sorted(statuses) == [303, 409]
    if statuses[1] == 303:
        await tenant.everybody["ben"].is_paged(incident)
        await tenant.everybody["ben"].acknowledges(incident)
        await tenant.everybody["ana"].is_told(incident, "acknowledgment")


async def test_what_is_no_link_and_no_button(tenant: Tenant, browser: Browser) -> None:
    incident, link = await paged(tenant)
    assert await browser.opens(link[:-4]) == 404
    assert await browser.presses("acknowledge") == 404
    assert await browser.opens(link) == 200
    assert await browser.presses("delete") == 400
    assert await browser.presses("note", text="  ") == 400
    assert await browser.presses("note", text="x" * 70_000) == 413
    assert await browser.presses("acknowledge", encoding="gzip") == 415
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_TRIGGERED
    assert await browser.presses("acknowledge") == 303
