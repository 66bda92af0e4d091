"""10,000 incidents for 20 people in a minute: when each one's first page comes, and how long another tenant's take meanwhile.

The base of the first page is that of a page in calm times; that of the other tenant's pages is the same tenant's before the storm.

How much of the difference is the want of processors, which the storm shares with its senders and receivers, is told by calls that
do nothing, made all along: to a server beside Tocsin that does nothing, and to each service in turn. The first ones wait for a
processor alone, the others for the turns of the services' loops as well. Their base, too, is the same before the storm. At last the
other tenant's pages are measured beside processes that only burn as much processor time as the storm took.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tocsin_stack.scratch import scratch
from tocsin_testkit.tenant import Sender
from tocsin_testkit.world import World

from tests import storms
from tests.bench.bench_alert_to_page import ENVIRONMENT, percentile
from tests.bench.burners import burning
from tests.bench.processor import Watched, beyond
from tests.bench.report import report
from tests.bench.watching_floor import TELL

PEOPLE, EACH, SECONDS = 20, 500, 60.0
RATE = 10
CALM_SECONDS = 20.0
PAUSE = 0.05
ROOT = Path(__file__).parents[2]

Asked = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Idle:
    """Seconds of each call that does nothing: to the server that does nothing, and to all services in turn."""

    bare: list[float] = field(default_factory=list)
    services: list[float] = field(default_factory=list)


async def idle(bare: Asked, services: Asked) -> Idle:
    """Both, again and again, until cancelled."""
    found = Idle()
    try:
        while True:
            for asked, times in ((bare, found.bare), (services, found.services)):
                start = time.monotonic()
                await asked()
                times.append(time.monotonic() - start)
            await asyncio.sleep(PAUSE)
    except asyncio.CancelledError:
        return found


@asynccontextmanager
async def nothing() -> AsyncIterator[Asked]:
    """A call of a server that does nothing, in a process of its own."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.watching_floor", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        port = int(await child.stdout.readline())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary(TELL)
            yield lambda: call(b"")
    finally:
        child.kill()
        await child.wait()


def every_service(world: World) -> Asked:
    """A call of each one that it answers from memory."""
    stubs: list[Any] = [health_pb2_grpc.HealthStub(each) for each in world.channels.by_service.values()]

    async def ask() -> None:
        for stub in stubs:
            await stub.Check(health_pb2.HealthCheckRequest())

    return ask


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
        environment = {**ENVIRONMENT, "NOTIFY_STORM_PAGES": "10"}
        async with World(folder, environment=environment, quick=False) as world, nothing() as bare:
            other = world.tenant()
            [ana] = await other.people("ana")
            sender = await other.integration(await other.policy([ana], minutes=600))
            struck = await storms.people(world.tenant(), PEOPLE)
            services = every_service(world)
            await paced(world, sender, ana.addresses[0], 2.0)
            beside, watched = asyncio.create_task(idle(bare, services)), Watched()
            calm = await paced(world, sender, ana.addresses[0], CALM_SECONDS)
            used_in_calm, calm_idle = watched.shares(), await ended(beside)
            pages = asyncio.create_task(paced(world, sender, ana.addresses[0], SECONDS))
            beside = asyncio.create_task(idle(bare, services))
            began, processor, watched = time.monotonic(), time.process_time(), Watched()
            await storms.strike(struck, EACH, seconds=SECONDS)
            used = beyond(watched.shares(), used_in_calm)
            took, processor = time.monotonic() - began, time.process_time() - processor
            waits, storm_idle = await pages, await ended(beside)
            await storms.all_is_told(struck)
            async with burning(used):
                burned = await paced(world, sender, ana.addresses[0], CALM_SECONDS)
    first, base = max(one.first_after for one in struck), percentile(calm, 99)
    report("storm.first_page_of_the_last_person", round(first, 3), "s", round(base, 3), round(first / base, 1))
    report("storm.incidents_sent_within", round(took, 1), "s", SECONDS, round(took / SECONDS, 2))
    most = max(len(one.got) for one in struck)
    report("storm.most_messages_of_one_person", most, "messages", EACH, round(most / EACH, 3))
    whole = took * (os.cpu_count() or 1)
    report("storm.processor_of_senders_and_receivers", processor, "s", whole, processor / whole)
    for name, values, before in (
        ("another_tenants_page", waits, calm),
        ("page_beside_processes_that_only_burn_as_much", burned, calm),
        ("call_of_a_server_that_does_nothing", storm_idle.bare, calm_idle.bare),
        ("call_of_each_service_that_does_nothing", storm_idle.services, calm_idle.services),
    ):
        for percent in (50, 99):
            value, calm_value = percentile(values, percent), percentile(before, percent)
            report(f"storm.{name}_p{percent}", value, "s", calm_value, value / calm_value)


async def ended(calls: "asyncio.Task[Idle]") -> Idle:
    """What they took."""
    calls.cancel()
    return await calls


if __name__ == "__main__":
    asyncio.run(main())
