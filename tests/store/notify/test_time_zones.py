"""Whoever is woken reads the time that their own clock shows."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from tocsin.escalation.v1.incident_pb2 import INCIDENT_STATE_TRIGGERED, Incident

from tests.store.notify.bundling import COLLECTED, TWO, bundles, storm
from tests.store.notify.support import WARNING, World, job, new_org, until
from tests.store.notify.test_answers import PUBLIC, mailed_link

KOLKATA = "Asia/Kolkata"
HALF_PAST_NINE = datetime(2026, 7, 1, 21, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "next_page"),
    [(KOLKATA, "03:00 IST on 02 Jul"), ("", "21:30 UTC on 01 Jul"), ("Mars/Olympus", "21:30 UTC on 01 Jul")],
)
async def test_the_answer_page_shows_times_in_the_zone_of_its_user(world: World, zone: str, next_page: str) -> None:
    org = new_org()
    await world.method(org, email="ana@example.com")
    responders = world.escalation.responders
    responders.there = True
    async with world.replica(public_url=PUBLIC) as notify, aiohttp.ClientSession() as session:
        given = job(org, time_zone=zone)
        shown = Incident(name=given.incident, title=given.title, state=INCIDENT_STATE_TRIGGERED, level=1)
        shown.next_step_time.FromDatetime(HALF_PAST_NINE)
        responders.incidents.append(shown)
        await notify.submit(given)
        link = (await mailed_link(world)).replace(PUBLIC, f"http://127.0.0.1:{notify.runtime.http.port}")
        async with session.get(link) as page:
            assert next_page in await page.text()


async def test_so_does_a_message_for_several_pages(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as notify:
        await storm(notify, org, WARNING, WARNING)
        began = datetime.now(UTC)
        await notify.submit(*(job(org, uuid.uuid4(), severity=WARNING, time_zone=KOLKATA) for _ in range(2)))
        await world.forward(COLLECTED)
        await until(lambda: len(bundles(world)) == 1)
    told = json.loads(bundles(world)[0].body)["bundle"]
    since = re.search(r"the oldest since (\d\d:\d\d IST)", told["title"])
    assert since is not None, told["title"]
    there = {f"{(began + timedelta(minutes=late)).astimezone(ZoneInfo(KOLKATA)):%H:%M IST}" for late in range(3)}
    assert since[1] in there
    assert f"{since[1].removesuffix(' IST')} warning: Disk full on db-1" in told["text"]
