"""What an operator sees of the outboxes at the board, and does about dead messages. One that does not answer is shown as such."""

import html
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tocsin_kit.auth import SigningKeys, mint
from tocsin_stack.ports import free_port

from tests.store.notify.support import KEYS, Notify, World, until

READS = ("queues:read", "outbox:read")
KIND = "page_not_reached"
PUT = """
INSERT INTO outbox (org_id, ordering_key, kind, payload, create_time, due_time, attempts, last_error, blocked, dead_time)
VALUES ('acme', $1, $2, ''::bytea, app_now() - interval '200 seconds', app_now() + interval '1 day', 3, $3, $4,
  CASE WHEN $5 THEN app_now() END) RETURNING id
"""


class Browser:
    """Logged in."""

    def __init__(self, base: str, http: aiohttp.ClientSession) -> None:
        self._base = base
        self._http = http
        self.text = ""

    async def logs_in(self, *scopes: str) -> None:
        token = mint(SigningKeys.parse(KEYS), org_id="*", subject="users/operator", scopes=scopes, ttl=600)
        assert await self.posts("/board/login", token=token) == 200

        async def notify_answers() -> bool:  # its own connection to itself is healthy a moment after it serves
            return await self.opens("/board") == 200 and "notify: outbox to escalation" in self.says

        await until(notify_answers)

    async def opens(self, path: str) -> int:
        async with self._http.get(self._base + path) as answer:
            self.text = await answer.text()
            return answer.status

    async def posts(self, path: str, **fields: str) -> int:
        async with self._http.post(self._base + path, data=fields) as answer:
            self.text = await answer.text()
            return answer.status

    async def acts(self, act: str, name: str, **fields: str) -> None:
        csrf = str(re.findall(r'name="csrf" value="([^"]+)"', self.text)[0])
        assert await self.posts("/board/act", service="notify", act=act, name=name, csrf=csrf, **fields) == 200

    @property
    def says(self) -> str:
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", self.text.partition("</style>")[2])).split())


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    """Ingest is away, and escalation is of a version that tells nothing of its outbox."""
    port, nobody = free_port(), free_port()
    at: dict[str, Any] = {
        "grpc_listen": f"127.0.0.1:{port}",
        "notify_target": f"127.0.0.1:{port}",
        "ingest_target": f"127.0.0.1:{nobody}",
    }
    async with (
        world.replica(**at) as notify,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
    ):
        yield Browser(base(notify), http)


def base(notify: Notify) -> str:
    return f"http://127.0.0.1:{notify.runtime.http.port}"


async def put(world: World, key: str, error: str | None, *, blocked: bool = False, dead: bool = False) -> int:
    id: int = await world.admin.fetchval(PUT, key, KIND, error, blocked, dead)
    return id


async def test_what_waits_is_shown_with_its_age_and_why_and_who_does_not_answer(world: World, browser: Browser) -> None:
    await put(world, "incident-1", "UNAVAILABLE: <b>escalation</b> is away")
    stuck = await put(world, "incident-2", "OUT_OF_ORDER", blocked=True)
    await browser.logs_in(*READS)
    assert "notify: outbox to escalation waiting 2 blocked 1 dead 0 oldest 3 min" in browser.says
    assert (
        "late for one tenant, the oldest for 3 min; 2 were tried and not accepted: UNAVAILABLE: <b>escalation</b>"
        in browser.says
    )
    assert "<b>escalation" not in browser.text
    assert "1 blocked, the first behind incident-2 of acme: OUT_OF_ORDER" in browser.says
    assert "Outbox of ingest, of which nothing is known now: ingest did not answer" in browser.says
    assert "Outbox of escalation, of which nothing is known now" in browser.says
    assert await browser.opens("/board/notify/outbox/waiting") == 200
    assert browser.text.count("tried next") == 2
    assert await browser.opens("/board/notify/outbox/blocked") == 200
    assert browser.text.count("tried next") == 1
    assert await browser.opens(f"/board/notify/outbox/{stuck}") == 200
    assert "The receiver lacks an earlier message of its key." in browser.says
    assert await browser.opens("/board/notify/outbox/dead") == 200
    assert "No message is dead." in browser.says
    assert await browser.opens("/board/ingest/outbox/dead") == 503
    assert await browser.opens("/board/notify/outbox/999999") == 404


async def test_dead_messages_are_redriven_and_discarded_for_a_reason(world: World, browser: Browser) -> None:
    first, second = [await put(world, "", "INTERNAL: refused", dead=True) for _ in range(2)]
    await browser.logs_in(*READS)
    await browser.opens("/board/notify/outbox/dead")
    assert 'value="redrive"' not in browser.text, "without the scope it is for reading"
    await browser.acts("redrive", f"outboxMessages/{first}")
    assert "Nothing was done" in browser.says
    await browser.logs_in(*READS, "outbox:write")
    await browser.opens("/board/notify/outbox/dead")
    assert browser.text.count('value="redrive"') == 2
    await browser.acts("discard", f"outboxMessages/{second}")
    assert "Nothing was done" in browser.says, "it needs a reason"
    await browser.acts("discard", f"outboxMessages/{second}", reason="a test")
    assert f"Done: discard outboxMessages/{second}." in browser.says
    await browser.acts("redrive", f"outboxMessages/{second}")
    assert "It was not dead any more." in browser.says
    await browser.acts("redrive", f"outboxMessages/{first}")
    assert f"Done: redrive outboxMessages/{first}." in browser.says

    async def none_is_dead() -> bool:
        return not (await world.row("SELECT count(*) FROM outbox WHERE dead_time IS NOT NULL"))[0]

    await until(none_is_dead)
