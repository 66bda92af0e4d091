"""A person has their browser shown their pages, by the link in a message that only they read."""

import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tocsin_kit.ids import new_id
from tocsin_stack.ports import free_port
from tocsin_testkit import chromium
from tocsin_testkit.push_service import Browser, PushService

from tests.store.notify.support import Notify, World, job, new_org, until

PHOTOGRAPHS = os.environ.get("ANSWER_PAGE_PHOTOGRAPHS")
SAYS = "document.body.innerText"
# No push service can be reached from here: what its subscription would be is the stand-in's.
SUBSCRIBES = (
    "PushManager.prototype.subscribe = async () => ({{toJSON: () => ({subscription}), unsubscribe: async () => true}})"
)

PRESSES = """(async () => {
  const [page] = (await self.registration.getNotifications()).filter(n => n.title.startsWith('[critical]'));
  self.dispatchEvent(new NotificationEvent('notificationclick', {notification: page, action: '0'}));
})()"""


@pytest.fixture
async def push(world: World) -> AsyncIterator[PushService]:
    async with PushService(world.inbox) as server:
        yield server


@asynccontextmanager
async def running(world: World, push: PushService, **overrides: Any) -> AsyncIterator[tuple[Notify, str]]:
    """A replica, and where it is reached."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    world.escalation.responders.there = True
    settings = {**push.settings(), "public_url": url, "http_listen": f"127.0.0.1:{port}", **overrides}
    async with world.replica(**settings) as replica:
        yield replica, url


async def link_in_mail(world: World, notify: Notify, org: str, url: str) -> str:
    """Ana is paged by mail: the link in it."""
    await world.method(org, email=f"ana@{org}.example")
    await notify.submit(job(org, incident=new_id()))
    mail = await world.inbox.wait_for(lambda m: m.address == f"ana@{org}.example", "the page")
    text = mail.body.decode().replace("=\r\n", "").replace("=3D", "=")
    return str(re.findall(rf"{url}/p/[\w-]+", text)[0])


class Caller:
    """What the page's script does."""

    def __init__(self, http: aiohttp.ClientSession, page: str) -> None:
        self._http = http
        self.page = page

    async def posts(self, **fields: Any) -> tuple[int, dict[str, str]]:
        async with self._http.post(self.page, json=fields) as answer:
            return answer.status, await answer.json()


async def kept(world: World, org: str) -> list[tuple[str, str, bool]]:
    """Ana's browsers: name, what is shown of the subscription, and whether it is proven."""
    rows = await world.admin.fetch(
        "SELECT display_name, address, verify_time IS NOT NULL FROM contact_methods WHERE org_id = $1 AND channel = 'web_push'",
        org,
    )
    return [tuple(row) for row in rows]


async def test_a_browser_whose_code_was_lost_is_added_again_and_stays_one(world: World, push: PushService) -> None:
    org, browser = new_org(), push.subscribe("browser-of-ana")
    async with running(world, push) as (notify, url), aiohttp.ClientSession() as http:
        async with http.get(await link_in_mail(world, notify, org, url)) as answer:
            [device] = re.findall(r'href="\.\.(/d/[\w-]+)"', await answer.text())
        caller = Caller(http, url + device)
        first = await caller.posts(subscription=browser.subscription, name="Pixel")
        await until(lambda: browser.shown)
        assert await caller.posts(subscription=browser.subscription, name="Pixel") == first
        await until(lambda: len(browser.shown) == 2)
        status, _ = await caller.posts(method=first[1]["method"], code=browser.shown[1]["code"])
        assert status == 200
        assert await kept(world, org) == [("Pixel", f"https://127.0.0.1:{push.port}/…-ana", True)]
        await world.admin.execute("UPDATE contact_methods SET disabled = true WHERE channel = 'web_push'")
        status, said = await caller.posts(subscription=browser.subscription, name="Pixel")
        assert (status, "exists already" in said["error"]) == (409, True)


async def test_a_browser_is_added_proven_and_paged_and_its_owner_is_told_where_they_were_reached(
    world: World, push: PushService
) -> None:
    org, browser = new_org(), push.subscribe("browser-of-ana")
    async with running(world, push) as (notify, url), aiohttp.ClientSession() as http:
        link = await link_in_mail(world, notify, org, url)
        async with http.get(link) as answer:
            [device] = re.findall(r'href="\.\.(/d/[\w-]+)"', await answer.text())
        async with http.get(url + device) as answer:
            assert answer.status == 200
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["Cache-Control"] == "no-store"
        async with http.get(f"{url}/push.js") as answer:
            assert (answer.status, answer.content_type) == (200, "text/javascript")
        caller = Caller(http, url + device)
        status, made = await caller.posts(subscription=browser.subscription, name="Pixel\n8")
        assert status == 200
        assert await kept(world, org) == [("Pixel 8", f"https://127.0.0.1:{push.port}/…-ana", False)]
        await until(lambda: browser.shown)
        assert (await caller.posts(method=made["method"], code="000000"))[0] == 400
        status, told = await caller.posts(method=made["method"], code=browser.shown[0]["code"])
        assert (status, told) == (200, {})
        assert [proven for _, _, proven in await kept(world, org)] == [True]
        notice = await world.inbox.wait_for(lambda m: m.kind == "contact_changed", "the notice")
        assert notice.address == f"ana@{org}.example"
        said = 'users/ana (by a link) verified your contact method "Pixel 8" (web push).'
        assert said in notice.body.decode()
        await notify.submit(job(org, incident=new_id()))
        await until(lambda: len(browser.shown) == 2)


async def test_a_link_that_others_may_have_read_adds_no_browser(world: World, push: PushService) -> None:
    org, browser = new_org(), push.subscribe("browser-of-a-stranger")
    async with running(world, push) as (notify, _), aiohttp.ClientSession() as http:
        await world.method(org, webhook="/team")
        await notify.submit(job(org, incident=new_id()))
        message = await world.inbox.wait_for(lambda m: m.address == "/team", "the page")
        link = str(json.loads(message.body)["answer_url"])
        async with http.get(link) as answer:
            assert answer.status == 200
            assert "/d/" not in await answer.text()
        caller = Caller(http, link.replace("/p/", "/d/"))
        async with http.get(caller.page) as answer:
            assert answer.status == 404
        assert (await caller.posts(subscription=browser.subscription, name=""))[0] == 404
        assert await kept(world, org) == []


async def test_what_the_page_never_posts_is_refused_and_so_is_a_link_that_is_too_old(
    world: World, push: PushService
) -> None:
    org, browser = new_org(), push.subscribe("browser-of-eve")
    async with running(world, push, link_lifetime_seconds=3600) as (notify, url), aiohttp.ClientSession() as http:
        caller = Caller(http, (await link_in_mail(world, notify, org, url)).replace("/p/", "/d/"))
        other = await world.method(org, "users/ben", email="ben@example.com", verified=False)
        refusals: list[tuple[dict[str, Any], str]] = [
            ({"subscription": "{}", "name": ""}, "must be what the browser's PushSubscription says"),
            ({"subscription": 7}, "subscription: must be text"),
            ({"subscription": browser.subscription, "name": ["x"]}, "name: must be text"),
            ({"subscription": "x" * 5000}, "at most 4096 characters"),
            ({"method": str(other)}, "code: must be six digits"),
            ({"method": "x", "code": "123456"}, "method: must be the id"),
            ({"method": str(other), "code": "123456"}, "does not exist"),
            ({"method": str(new_id()), "code": "123456"}, "does not exist"),
        ]
        for fields, said in refusals:
            status, told = await caller.posts(**fields)
            assert 400 <= status < 500, told
            assert said in told["error"]
        async with http.post(caller.page, data=b"[1]") as answer:
            assert answer.status == 400
        async with http.get(f"{caller.page}x") as answer:
            assert answer.status == 404
        await world.forward(timedelta(hours=2))
        assert (await caller.posts(subscription=browser.subscription, name=""))[0] == 404
        assert await kept(world, org) == []


@pytest.mark.long
@pytest.mark.skipif(chromium.PROGRAM is None, reason="chromium is not installed (Debian: apt install chromium)")
async def test_a_real_browser_asks_shows_tells_and_answers(world: World, push: PushService) -> None:
    org, browser = new_org(), push.subscribe("chromium")
    async with running(world, push) as (notify, url), chromium.phone(scripts=True) as phone:
        link = await link_in_mail(world, notify, org, url)
        await phone.does("Browser.grantPermissions", permissions=["notifications"], origin=url)
        await phone.does(
            "Page.addScriptToEvaluateOnNewDocument", source=SUBSCRIBES.format(subscription=browser.subscription)
        )
        await phone.opens(link)
        assert "Get pages on this device" in await phone.asks(SAYS)
        await phone.opens(link.replace("/p/", "/d/"))
        assert "Pages on this device" in await phone.asks(SAYS)
        await photograph(phone, "device")
        await phone.does("ServiceWorker.enable")
        await phone.asks("document.getElementById('ask').click()")
        await until(lambda: browser.shown)
        found = await phone.sees("ServiceWorker.workerRegistrationUpdated", lambda said: bool(said["registrations"]))
        registration = found["registrations"][0]["registrationId"]

        async def arrives(browser: Browser) -> None:
            data = json.dumps(browser.shown[-1])
            await phone.does("ServiceWorker.deliverPushMessage", origin=url, registrationId=registration, data=data)

        async def says(words: str) -> bool:
            return words in await phone.asks(SAYS)

        await arrives(browser)
        await until(lambda: says("Done: this browser shows your pages from now on."))
        assert await phone.asks("document.getElementById('ask').offsetHeight") == 0, "there is nothing left to press"
        await photograph(phone, "device-added")
        assert [proven for _, _, proven in await kept(world, org)] == [True]

        await notify.submit(job(org, incident=new_id()))
        await until(lambda: len(browser.shown) == 2)
        await arrives(browser)
        shown = """(async () => {
          const worker = await navigator.serviceWorker.ready;
          return (await worker.getNotifications()).map(n => [n.title, ...n.actions.map(a => a.title)]);
        })()"""
        await until(lambda: _is(phone, shown, "[critical] Disk full on db-1 (level 1)"))
        assert ["[critical] Disk full on db-1 (level 1)", "Acknowledge", "Next level"] in await phone.asks(shown)
        evidence = """SELECT evidence FROM attempts a JOIN notifications n ON n.id = a.notification_id
          WHERE n.org_id = $1 AND n.channel = 'web_push' ORDER BY a.start_time DESC LIMIT 1"""
        await until(lambda: _equals(world, evidence, org, "delivered"))

        await phone.asks_worker(PRESSES)
        await until(lambda: _is(phone, shown, "Acknowledged."))
        assert world.escalation.responders.acted == [("acknowledge", "users/ana", "web push")]


async def _is(phone: chromium.Phone, shown: str, title: str) -> bool:
    return any(title in each for each in await phone.asks(shown))


async def _equals(world: World, query: str, org: str, value: str) -> bool:
    return bool(await world.admin.fetchval(query, org) == value)


async def photograph(phone: chromium.Phone, name: str) -> None:
    if PHOTOGRAPHS:
        await phone.photograph(Path(PHOTOGRAPHS) / f"{name}.png")
