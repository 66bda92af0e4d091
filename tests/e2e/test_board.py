"""The board: an operator logs in, sees the queues of both services, and acts; a browser without a script is enough."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from tocsin.notify.v1 import message_service_pb2
from tocsin_testkit.busy import within
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

READS = ("queues:read", "outbox:read")
WRITES = (*READS, "queues:write", "outbox:write")
TITLE = "Disk <b>full</b> on db-1"


class Browser:
    """Keeps the cookie, follows redirects, and presses buttons."""

    def __init__(self, world: World, session: aiohttp.ClientSession) -> None:
        self._url = world.notify_url
        self._session = session
        self.text = ""
        self.headers: dict[str, str] = {}

    async def opens(self, path: str) -> int:
        async with self._session.get(self._url + path) as response:
            return await self._take(response)

    async def posts(self, path: str, **fields: str) -> int:
        async with self._session.post(self._url + path, data=fields) as response:
            return await self._take(response)

    async def logs_in(self, token: str) -> int:
        """Without following the redirect."""
        fields = {"token": token}
        async with self._session.post(f"{self._url}/board/login", data=fields, allow_redirects=False) as response:
            return await self._take(response)

    async def presses(self, act: str, key: str, **fields: str) -> int:
        """The button of a task, with everything that its form holds."""
        [name] = set(re.findall(rf'name="name" value="([^"]*{re.escape(key)})"', self.text))
        [service] = set(
            re.findall(rf'name="service" value="(\w+)"><input type="hidden" name="name" value="{name}"', self.text)
        )
        return await self.posts("/board/act", service=service, name=name, act=act, csrf=self.csrf, **fields)

    async def news(self) -> None:
        """Returns once something happened, as a script would be told."""
        async with self._session.get(f"{self._url}/board/events") as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            async for line in response.content:
                if line == b"data: news\n":
                    return

    @property
    def csrf(self) -> str:
        return str(re.findall(r'name="csrf" value="([^"]+)"', self.text)[0])

    @property
    def says(self) -> str:
        """The page as people read it."""
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", self.text.partition("</style>")[2])).split())

    async def _take(self, response: aiohttp.ClientResponse) -> int:
        self.text, self.headers = await response.text(), dict(response.headers)
        return response.status


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(world, session)


async def scheduled(tenant: Tenant, user: str) -> str:
    """The key of a message of tomorrow, as a task."""
    message = message_service_pb2.Message(user=user, text="Tomorrow.")
    message.send_time.FromDatetime(datetime.now(UTC) + timedelta(days=30))
    made = await tenant.admin.messages.SendMessage(message_service_pb2.SendMessageRequest(message=message))
    return f"messages.{made.message.name.removeprefix('messages/')}"


async def finds(browser: Browser, path: str, words: str) -> None:
    """Opens the list, and its further pages, until one shows the words."""
    while path:
        assert await browser.opens(path) == 200
        if words in browser.text:
            return
        more = re.search(r'<a href="([^"]+)">More</a>', browser.text)
        path = html.unescape(more[1]) if more else ""
    raise AssertionError(f"no page shows {words}")


async def test_only_an_operator_gets_in(world: World, tenant: Tenant, browser: Browser) -> None:
    assert await browser.opens("/board") == 200
    assert 'action="/board/login"' in browser.text, "led to the form"
    assert await browser.posts("/board/login", token="nonsense") == 401
    assert await browser.posts("/board/login", token=world.token(tenant.org_id, WRITES)) == 403, "a tenant's"
    assert await browser.posts("/board/login", token=world.token("*", ["queues:write"])) == 403, "not even for reading"
    assert await browser.posts("/board/login", token="") == 400
    assert await browser.opens("/board/notify/delayed") == 200
    assert 'action="/board/login"' in browser.text
    assert await browser.logs_in(world.token("*", WRITES)) == 303
    cookie = browser.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/board"} <= {part.strip() for part in cookie.split(";")}
    assert browser.headers["Location"] == "/board", "no token in a URL"
    assert await browser.opens("/board") == 200
    assert "queues/escalation" in browser.says
    assert "queues/notify" in browser.says
    for outbox in ("ingest: outbox to escalation", "escalation: outbox to notify", "notify: outbox to escalation"):
        assert outbox in browser.says
    assert browser.text.count("<svg") == 2 * 4 + 3, "of each queue: what stands where, attempts, lateness, durations"
    assert "5 attempts" in browser.says
    assert browser.headers["Cache-Control"] == "no-store"
    policy = browser.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http:" not in browser.text + policy
    assert await browser.posts("/board/logout", csrf="another") == 200
    assert await browser.opens("/board") == 200
    assert "queues/notify" in browser.says, "only the form of the session logs out"
    await browser.posts("/board/logout", csrf=browser.csrf)
    await browser.opens("/board")
    assert 'action="/board/login"' in browser.text


async def test_an_operator_acts_and_a_form_from_elsewhere_does_not(
    world: World, tenant: Tenant, browser: Browser
) -> None:
    [ana] = await tenant.people("ana")
    key = await scheduled(tenant, ana.name)
    prom = await tenant.integration(await tenant.policy([ana], minutes=30))
    incident = (await prom.triggers(TITLE, source="db-1")).removeprefix("incidents/")
    await ana.is_paged(f"incidents/{incident}")
    await browser.posts("/board/login", token=world.token("*", WRITES))

    await finds(browser, "/board/escalation/delayed", f"timers.{incident}")
    assert html.escape(TITLE) in browser.text
    assert "<b>full" not in browser.text
    assert await browser.presses("remove", incident) == 200
    assert "Nothing was done" in browser.says, "the box is not ticked"
    assert f"incidents/{incident}" in browser.says
    assert await browser.opens(f"/board/escalation/task/timers.{incident}") == 200
    assert "If it were removed" in browser.says

    await finds(browser, "/board/notify/delayed", key)
    name = f"queues/notify/tasks/{key}"
    assert await browser.posts("/board/act", service="notify", name=name, act="remove", csrf="guessed") == 403
    await finds(browser, "/board/notify/delayed", key)
    assert await browser.presses("remove", key) == 200
    assert f"Done: remove {name}" in browser.says
    assert await browser.opens(f"/board/notify/task/{key}") == 404
    for service in ("ingest", "escalation", "notify"):
        for shown in ("waiting", "blocked", "dead"):
            assert await browser.opens(f"/board/{service}/outbox/{shown}") == 200


async def test_a_queue_is_drained_after_a_look_at_what_would_go(world: World, tenant: Tenant, browser: Browser) -> None:
    [ana] = await tenant.people("ana")
    key = await scheduled(tenant, ana.name)
    await browser.posts("/board/login", token=world.token("*", WRITES))
    assert await browser.opens(f"/board/notify/drain?look=1&delayed=1&org_id={tenant.org_id}") == 200
    assert "Removed: messages (1). Kept: nothing." in browser.says
    assert "EventSource" not in browser.text, "what was looked at stays"
    assert await browser.opens(f"/board/notify/task/{key}") == 200, "nothing is done yet"
    fields = {"service": "notify", "name": "queues/notify", "act": "drain", "delayed": "1", "org_id": tenant.org_id}
    assert await browser.posts("/board/act", **fields, csrf="guessed") == 403
    assert await browser.opens(f"/board/notify/task/{key}") == 200
    assert await browser.posts("/board/act", **fields, csrf=browser.csrf) == 200
    assert "Done: drain queues/notify. Removed: messages (1)." in browser.says
    assert await browser.opens(f"/board/notify/task/{key}") == 404
    await browser.posts("/board/logout", csrf=browser.csrf)
    await browser.posts("/board/login", token=world.token("*", READS))
    assert await browser.opens("/board/notify/drain?look=1") == 403, "a look needs the scope as well"


async def test_without_the_scope_it_is_for_reading(world: World, tenant: Tenant, browser: Browser) -> None:
    [ana] = await tenant.people("ana")
    key = await scheduled(tenant, ana.name)
    await browser.posts("/board/login", token=world.token("*", READS))
    await finds(browser, "/board/notify/delayed", key)
    assert 'name="act"' not in browser.text
    fields = {"service": "notify", "name": f"queues/notify/tasks/{key}", "act": "remove", "csrf": browser.csrf}
    assert await browser.posts("/board/act", **fields) == 200
    assert "Nothing was done" in browser.says
    await finds(browser, "/board/notify/delayed", key)


async def test_it_is_told_when_something_happens(world: World, tenant: Tenant, browser: Browser) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=30))
    await browser.posts("/board/login", token=world.token("*", READS))
    told = asyncio.create_task(browser.news())
    async with asyncio.timeout(within(30)):
        while not told.done():  # the watch may begin after the first page
            await ana.is_paged(await prom.triggers(f"news {datetime.now(UTC).isoformat()}"))
        await told

    async def shown() -> bool:
        await browser.opens("/board/notify/completed")
        return f"<dd>{tenant.org_id}</dd>" in browser.text

    async with asyncio.timeout(within(30)):
        while not await shown():
            await asyncio.sleep(0.1)
