"""The answer page of a bundle in a real browser with a phone's screen, with and without scripts.

`ANSWER_PAGE_PHOTOGRAPHS=folder` keeps what was seen.
"""

import json
import os
from pathlib import Path

import pytest
from tocsin.escalation.v1 import incident_pb2
from tocsin_testkit import chromium
from tocsin_testkit.installation import PUBLIC_URL
from tocsin_testkit.tenant import Tenant

from tests import storms

PHOTOGRAPHS = os.environ.get("ANSWER_PAGE_PHOTOGRAPHS")
WIDE = "document.documentElement.scrollWidth"
BUTTON = "document.querySelector('button').getBoundingClientRect()"
SAYS = "document.body.innerText"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium.PROGRAM is None, reason="chromium is not installed (Debian: apt install chromium)"),
]


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_bundle_is_read_and_answered_with_one_thumb(tenant: Tenant, scripts: bool) -> None:
    await storms.budget(tenant, 1)
    [struck] = await storms.people(tenant, 1)
    await storms.strike([struck], 9, at_once=9)
    await tenant.passes(seconds=31)
    await storms.all_is_told([struck])
    [message] = struck.together
    link = tenant.world.notify_url + str(json.loads(message.body)["answer_url"]).removeprefix(PUBLIC_URL)
    async with chromium.phone(scripts=scripts) as phone:
        await phone.opens(link)
        assert "8 more pages" in await phone.asks(SAYS)
        assert "8 of 8 wait for an answer." in await phone.asks(SAYS)
        assert await phone.asks(WIDE) == chromium.WIDTH, "nothing is beside the screen"
        assert await phone.asks(f"{BUTTON}.height") >= 44, "as large as a thumb"
        assert await phone.asks(f"{BUTTON}.bottom") <= chromium.HEIGHT, "no need to look for it"
        if PHOTOGRAPHS:
            await phone.photograph(Path(PHOTOGRAPHS) / f"bundle-{scripts}.png")
        await phone.presses("Acknowledge all 8")
        assert "Each of them was answered." in await phone.asks(SAYS)
        if PHOTOGRAPHS:
            await phone.photograph(Path(PHOTOGRAPHS) / f"answered-{scripts}.png")
    alone = {each.incident for each in struck.alone}
    states = {(await tenant.incident(name)).state for name in struck.incidents if name not in alone}
    assert states == {incident_pb2.INCIDENT_STATE_ACKNOWLEDGED}
    for each in struck.got:
        tenant.expected(each)
