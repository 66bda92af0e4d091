"""How long the answer page takes to come, and an answer by its link and by a key of a call.

One at a time, on a stack as it is in production. An answer is timed until its own answer comes, which follows the acknowledged
incident and the certainty that its pages have stopped. The floor of each is measured in turns with it: a request to a server that
does nothing but make as many commits in the same PostgreSQL (`tests.bench.answers_floor`).
"""

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import aiohttp
from tocsin_stack.scratch import scratch
from tocsin_testkit.installation import PUBLIC_URL
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.twilio import Call
from tocsin_testkit.world import World

from tests.bench.answers_floor import committing
from tests.bench.bench_alert_to_page import ENVIRONMENT, percentile
from tests.bench.report import report

T = TypeVar("T")
EACH = 200
WARM = 20
COMMITS = {"page": 0, "link_to_acknowledged": 5, "key_to_acknowledged": 4}
"""On the way of each. By link: the use of the link, the acknowledge, the fence, what it stops, and the use as done. By key: the
evidence in place of the first and the last."""


async def main() -> None:
    with scratch("tocsin-bench-") as folder:
        async with World(folder, environment=ENVIRONMENT, quick=False) as world, aiohttp.ClientSession() as session:
            tenant = world.tenant()
            [ana] = await tenant.people("ana")
            ben = await tenant.person("ben", webhook=False)
            await ben.adds_phone("+4915110000001", call=True)

            async def link(incident: str) -> str:
                page = await ana.is_paged(incident)
                return str(json.loads(page.body)["answer_url"]).replace(PUBLIC_URL, world.notify_url)

            async def call(_: str) -> Call:
                return await ben.is_called()

            async def shows(link: str) -> None:
                async with session.get(link) as answer:
                    assert answer.status == 200
                    await answer.read()

            async def acknowledges(link: str) -> None:
                async with session.post(link, data={"action": "acknowledge"}, allow_redirects=False) as answer:
                    assert answer.status == 303

            async def presses(call: Call) -> None:
                assert "acknowledged" in (await world.phones.presses(call, "1")).says[0]

            floors = {name: list[float]() for name in COMMITS}
            async with committing(world.stack.plan.databases["escalation"]) as ask:

                async def none(_: object) -> None:
                    """After the measured steps of each incident, so that both meet the same machine."""
                    for name, times in floors.items():
                        began = time.monotonic()
                        await ask(COMMITS[name])
                        times.append(time.monotonic() - began)

                await timed(tenant, ana, WARM, link, shows, acknowledges)
                page, by_link, _ = await timed(tenant, ana, EACH, link, shows, acknowledges, none)
                by_key, _ = await timed(tenant, ben, EACH, call, presses, none)
    measured = {"page": page, "link_to_acknowledged": by_link, "key_to_acknowledged": by_key}
    for name, values in measured.items():
        for percent in (50, 99):
            value, base = percentile(values, percent) * 1000, percentile(floors[name], percent) * 1000
            report(f"answer_{name}_p{percent}", round(value, 2), "ms", round(base, 2), round(value / base, 1))


async def timed(
    tenant: Tenant,
    person: Person,
    count: int,
    reached: Callable[[str], Awaitable[T]],
    *steps: Callable[[T], Awaitable[None]],
) -> Sequence[list[float]]:
    """Seconds of each step, for so many incidents of which the person was `reached` before."""
    sender = await tenant.integration(await tenant.policy([person], minutes=60))
    times = [list[float]() for _ in steps]
    for number in range(count):
        incident = await sender.triggers(f"bench {number}", source=person.name)
        message = await reached(incident)
        for taken, step in zip(times, steps, strict=True):
            began = time.monotonic()
            await step(message)
            taken.append(time.monotonic() - began)
        assert (await tenant.incident(incident)).acknowledged_by == person.name
    return times
