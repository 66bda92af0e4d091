"""The chapter about phones: a text message and a call wake one person, the next one answers by the link in the mail."""

import re

import aiohttp

from tocsin_testkit.busy import until
from tocsin_testkit.demo.story import Story
from tocsin_testkit.demo.tell import BLUE, GREEN
from tocsin_testkit.installation import PUBLIC_URL
from tocsin_testkit.mail import text_of
from tocsin_testkit.received import Received

_LINK = re.compile(r"https://\S+/p/\S+")


async def somebody_is_woken(story: Story) -> None:
    """Dora is texted and called, and cannot help; eli answers by the link."""
    tenant, tell = story.tenant, story.tell
    phones = tenant.world.phones
    tell.chapter(
        "At night: a text message, a call, and a link (the provider of phones is a stand-in, over real sockets)"
    )
    dora = await tenant.person("dora", webhook=False)
    text, call = await dora.adds_phone("+4915550000001"), await dora.adds_phone("+4915550000002", call=True)
    await dora.wants(("high", text, 0), ("high", call, 1 / 60))
    eli = await tenant.person("eli", email=True)
    tell.happens("users/dora is texted at once, and called a second later; users/eli is the next level, by e-mail")
    sender = await tenant.integration(await tenant.policy([dora], [eli], minutes=30, name="payments"))
    incident = await sender.triggers("payments fail", source="shop")

    texted = await dora.is_texted()
    tell.happens(f"dora is texted: {texted.subject}", BLUE)
    await phones.tells(phones.to(texted.address)[-1], "delivered")
    rings = await dora.is_called()
    tell.happens(f"her phone rings, and says: {rings.script.says[0]}", BLUE)
    await phones.hears(rings, "human")
    said = await phones.presses(rings, "2")
    tell.happens(f"she presses 2, since she cannot help, and hears: {said.says[0]}")

    page = await eli.is_paged(incident, level=2)
    story.pages[incident] = [(eli.id, 2)]
    tell.happens(f"level 2: eli paged by {page.channel}: {page.subject}", BLUE)
    tell.happens(f"he opens the link, presses Acknowledge, and reads: {await _answers(story, page)}", GREEN)
    await _evidence(story, incident)
    tell.happens(f"dora is texted: {(await dora.is_texted()).subject}")
    await eli.resolves(incident)
    tell.happens(f"eli resolves it, and dora is texted: {(await dora.is_texted()).subject}", GREEN)


async def _answers(story: Story, page: Received) -> str:
    """What the page says after its button was pressed."""
    found = _LINK.search(text_of(page))
    assert found is not None, "the mail has no link"
    url = found[0].replace(PUBLIC_URL, story.tenant.world.notify_url)
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as shown:
            assert shown.status == 200, shown.status
        async with session.post(url, data={"action": "acknowledge"}, allow_redirects=False) as pressed:
            assert pressed.status == 303, pressed.status
            after = f"{url.rpartition('/')[0]}/{pressed.headers['Location']}"
        async with session.get(after) as shown:
            said = re.search(r"eli acknowledged it at [^.<]+", await shown.text())
    assert said is not None, "the page does not say who answered"
    return said[0].strip()


async def _evidence(story: Story, incident: str) -> None:
    """What the provider said of each message, as the timeline keeps it."""
    arrived = ("SMS to dora delivered", "call to dora delivered")

    async def told() -> bool:
        return set(arrived) <= {entry.message for entry in await story.tenant.timeline(incident)}

    await until(told)
    story.tell.happens(f"the timeline has the evidence: {', '.join(arrived)}")
