"""From an accepted alert to the phone: how long one takes at 20 a second, and how many a second go through."""

import asyncio
import statistics
import time
import uuid
from collections.abc import Sequence

import aiohttp
from tocsin.ingest.v1 import alert_pb2, alert_service_pb2
from tocsin.type.v1 import severity_pb2
from tocsin_stack.scratch import scratch
from tocsin_testkit.clients import Clients
from tocsin_testkit.world import World

from tests.bench.processor import report_processor, spent
from tests.bench.report import report

RATE = 20
SECONDS = 15
BURST = 1000
# As they are in production. A world for tests compares the open incidents of ingest and escalation ten times as often, which here
# are all of the thousands that the burst has opened. Nor do its quick sweeps run here: with them a stack that does
# nothing takes a twentieth of two cores.
ENVIRONMENT = {"LOG_LEVEL": "WARNING", "INGEST_RECONCILE_SECONDS": "5", "INGEST_RECONCILE_GRACE_SECONDS": "15"}


async def main() -> None:
    with scratch("tocsin-bench-") as folder:
        async with World(folder, environment=ENVIRONMENT, quick=False) as world:
            tenant = world.tenant()
            [ana] = await tenant.people("ana")
            sender = await tenant.integration(await tenant.policy([ana], minutes=60))
            clients = Clients(world.channels, sender.key)
            await latency(world, clients, ana.addresses[0])
            await throughput(world, clients, ana.addresses[0])


async def latency(world: World, clients: Clients, path: str) -> None:
    """Accepted to webhook called, one alert every 50 ms; the floor is one bare POST to the same server."""
    for _ in range(20):
        await clients.alerts.SendAlert(request(str(uuid.uuid4())))
    await world.idle()
    floor = await posts(world, 200, together=1)
    began, accepted, sent = time.monotonic(), dict[str, float](), dict[str, float]()

    async def one(number: int) -> None:
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
        start = time.monotonic()
        answer = await clients.alerts.SendAlert(request(f"latency-{number}"))
        accepted[answer.incident], sent[answer.incident] = time.monotonic(), start

    await asyncio.gather(*(one(number) for number in range(RATE * SECONDS)))
    await arrived(world, path, set(accepted))
    pages = {m.incident: m.at for m in world.inbox.messages if m.address == path and m.incident in accepted}
    waits = [pages[incident] - at for incident, at in accepted.items()]
    whole = [pages[incident] - at for incident, at in sent.items()]
    for name, values in (("accepted_to_webhook", waits), ("sent_to_webhook", whole)):
        for percent in (50, 99):
            value, base = percentile(values, percent) * 1000, percentile(floor, percent) * 1000
            report(f"road_{name}_p{percent}", round(value, 2), "ms", round(base, 2), round(value / base, 1))


async def throughput(world: World, clients: Clients, path: str) -> None:
    """Incidents opened and paged per second, all sent at once; the floor is as many bare POSTs."""
    base = BURST / sum_of(await posts(world, BURST, together=50, total=True))
    began, before = time.monotonic(), spent()
    incidents: set[str] = set()
    for start in range(0, BURST, 500):
        alerts = [request(f"burst-{start + number}") for number in range(500)]
        answer = await clients.alerts.SendAlerts(alert_service_pb2.SendAlertsRequest(alerts=alerts))
        incidents |= {result.response.incident for result in answer.results}
    opened = BURST / (time.monotonic() - began)
    await arrived(world, path, incidents)
    last = max(m.at for m in world.inbox.messages if m.incident in incidents)
    paged = BURST / (last - began)
    await world.idle()
    report_processor("road_paged", before, BURST)
    report("road_incidents_opened", round(opened), "1/s", round(base), round(opened / base, 2))
    report("road_incidents_paged", round(paged), "1/s", round(base), round(paged / base, 2))


def request(key: str) -> alert_service_pb2.SendAlertRequest:
    alert = alert_pb2.AlertInput(summary=f"bench {key}", dedup_key=key, severity=severity_pb2.SEVERITY_CRITICAL)
    return alert_service_pb2.SendAlertRequest(alert=alert)


async def posts(world: World, count: int, *, together: int, total: bool = False) -> list[float]:
    """Seconds of each bare POST of a page-sized body to the same server, or of all of them in one value."""
    body = next(m.body for m in world.inbox.messages if m.channel == "webhook")
    room, times = asyncio.Semaphore(together), list[float]()

    async with aiohttp.ClientSession() as session:

        async def one() -> None:
            async with room:
                start = time.monotonic()
                async with session.post(world.hooks.url("floor"), data=body) as response:
                    await response.read()
                times.append(time.monotonic() - start)

        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(count)))
    return [time.monotonic() - began] if total else times


async def arrived(world: World, path: str, incidents: set[str]) -> None:
    async with asyncio.timeout(120):
        while not incidents <= {m.incident for m in world.inbox.messages if m.address == path}:
            await asyncio.sleep(0.02)


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def sum_of(values: Sequence[float]) -> float:
    return sum(values)
