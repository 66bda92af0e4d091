"""The board in a real browser, on a desk and on a phone, with and without scripts.

`BOARD_PHOTOGRAPHS=folder` keeps what was seen.
"""

import os
from pathlib import Path

import pytest
from tocsin_testkit import chromium
from tocsin_testkit.busy import until
from tocsin_testkit.chromium import Phone
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests.e2e.test_board import WRITES, scheduled

PHOTOGRAPHS = os.environ.get("BOARD_PHOTOGRAPHS")
SAYS = "document.body.innerText"
WIDE = "document.documentElement.scrollWidth"
PLOTS = "[...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().height > 20).length"
REFUSED = "performance.getEntriesByType('resource').filter(e => new URL(e.name).host !== location.host).length"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium.PROGRAM is None, reason="chromium is not installed (Debian: apt install chromium)"),
]


async def keeps(phone: Phone, name: str) -> None:
    if PHOTOGRAPHS:
        await phone.photograph(Path(PHOTOGRAPHS) / f"{name}.png")


@pytest.mark.parametrize(("width", "height", "scripts"), [(1280, 900, True), (360, 640, True), (360, 640, False)])
async def test_an_operator_looks_drains_and_leaves(
    world: World, tenant: Tenant, width: int, height: int, scripts: bool
) -> None:
    [ana] = await tenant.people("ana")
    key = await scheduled(tenant, ana.name)
    prom = await tenant.integration(await tenant.policy([ana], minutes=30))
    for title in ("db-1 is full", "web-2 is slow"):
        await ana.is_paged(await prom.triggers(title))
    url = world.notify_url
    async with chromium.phone(scripts=scripts, width=width, height=height) as phone:
        await phone.opens(f"{url}/board")
        assert "Operator's token" in await phone.asks(SAYS), "led to the form"
        await keeps(phone, f"login-{width}-{scripts}")
        await phone.asks(f"document.querySelector('#token').value = {world.token('*', WRITES)!r}")
        await phone.presses("Log in")
        assert "queues/notify" in await phone.asks(SAYS)
        assert await phone.asks(WIDE) <= width, "nothing is beside the screen"
        assert await phone.asks(PLOTS) == 11
        assert await phone.asks(REFUSED) == 0, "everything is the board's own"
        await keeps(phone, f"overview-{width}-{scripts}")
        if scripts:
            done = await phone.asks("document.querySelector('main').innerText")
            await ana.is_paged(await prom.triggers("cache-3 is cold"))

            async def followed() -> bool:
                return bool(await phone.asks("document.querySelector('main').innerText") != done)

            await until(followed)
        await phone.opens(f"{url}/board/ingest/outbox/waiting")
        assert "waiting · blocked · dead" in await phone.asks(SAYS)
        assert await phone.asks(WIDE) <= width
        await keeps(phone, f"outbox-{width}-{scripts}")
        await phone.opens(f"{url}/board/notify/delayed")
        await keeps(phone, f"delayed-{width}-{scripts}")
        await phone.opens(f"{url}/board/notify/drain")
        await phone.asks(
            f"document.querySelector('#org_id').value = {tenant.org_id!r};"
            "document.querySelector('[name=delayed]').checked = true"
        )
        await phone.presses("See what would go")
        assert "Removed: messages (1). Kept: nothing." in await phone.asks(SAYS)
        assert await phone.asks(WIDE) <= width
        await keeps(phone, f"drain-{width}-{scripts}")
        await phone.presses("Remove 1 task")
        assert "Done: drain queues/notify." in await phone.asks(SAYS)
        await phone.opens(f"{url}/board/notify/task/{key}")
        assert "does not exist" in await phone.asks(SAYS)
        await phone.presses("Log out")
        await phone.opens(f"{url}/board/notify/delayed")
        assert "Operator's token" in await phone.asks(SAYS)
