"""10,000 incidents for 20 people in a minute: when each one's first page comes, and how long another tenant's take meanwhile.

The base of the first page is that of a page in calm times; that of the other tenant's pages is the same tenant's before the storm.
"""

import asyncio
import time

from tocsin_stack.scratch import scratch
from tocsin_testkit.tenant import Sender
from tocsin_testkit.world import World

from tests import storms
from tests.bench.bench_alert_to_page import ENVIRONMENT, percentile
from tests.bench.report import report

PEOPLE, EACH, SECONDS = 20, 500, 60.0
RATE = 10
CALM_SECONDS = 20.0


async def paced(world: World, sender: Sender, path: str, seconds: float) -> list[float]:
    """Seconds from each alert of the other tenant to its page."""
    began, sent = time.monotonic(), dict[str, float]()

    async def one(number: int) -> None:
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
        start = time.monotonic()
        sent[await sender.triggers(f"calm {start}")] = start

    await asyncio.gather(*(one(number) for number in range(round(RATE * seconds))))
    at: dict[str, float] = {}
    async with asyncio.timeout(120):
        while not sent.keys() <= at.keys():
            await asyncio.sleep(0.05)
            at = {message.incident: message.at for message in world.inbox.messages if message.address == path}
    return [at[incident] - start for incident, start in sent.items()]


async def main() -> None:
    with scratch("tocsin-bench-") as folder:
        async with World(folder, environment={**ENVIRONMENT, "NOTIFY_STORM_PAGES": "10"}, quick=False) as world:
            other = world.tenant()
            [ana] = await other.people("ana")
            sender = await other.integration(await other.policy([ana], minutes=600))
            struck = await storms.people(world.tenant(), PEOPLE)
            await paced(world, sender, ana.addresses[0], 2.0)
            calm = await paced(world, sender, ana.addresses[0], CALM_SECONDS)
            beside = asyncio.create_task(paced(world, sender, ana.addresses[0], SECONDS))
            began = time.monotonic()
            await storms.strike(struck, EACH, seconds=SECONDS)
            took = time.monotonic() - began
            waits = await beside
            await storms.all_is_told(struck)
    first, base = max(one.first_after for one in struck), percentile(calm, 99)
    report("storm.first_page_of_the_last_person", round(first, 3), "s", round(base, 3), round(first / base, 1))
    report("storm.incidents_sent_within", round(took, 1), "s", SECONDS, round(took / SECONDS, 2))
    most, pages = max(len(one.got) for one in struck), EACH
    report("storm.most_messages_of_one_person", most, "messages", pages, round(most / pages, 3))
    for percent in (50, 99):
        value, before = percentile(waits, percent), percentile(calm, percent)
        report(
            f"storm.another_tenants_page_p{percent}", round(value, 3), "s", round(before, 3), round(value / before, 2)
        )


if __name__ == "__main__":
    asyncio.run(main())
