"""Pages of one tenant beside a flood: of a stranger with invented credentials, and of another tenant with its own key.

The short round says that every page arrives. `make abuse` floods for ABUSE_SECONDS each, and compares the time that a page
takes with that of a calm moment before.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import grpc
import pytest
from tocsin.limits.v1.limit_service_pb2 import UpdateTenantLimitsRequest
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Sender, Tenant
from tocsin_testkit.world import World

from tests.abuse.rpcs import RPCS, bearer

SECONDS = float(os.environ.get("ABUSE_SECONDS", "0"))
PAGES = 3
"""In the short round."""
AT_ONCE = 16
PAUSE = 0.04
"""Seconds between the attacks of one task: 400 a second together. The flood and what times the pages are one process, on the
cores of the services: faster than that it would measure how they share a processor."""
PATIENCE = 60.0
MOST_SLOWER = 2.0
FLOOR = 0.05
"""Seconds; what is faster is not told apart."""
Attack = Callable[[], Awaitable[object]]


async def page(ana: Person, sender: Sender) -> float:
    """Seconds from an alert to the page that it causes."""
    began = time.monotonic()
    incident = await sender.triggers("it burns", dedup_key=secrets.token_hex(8))
    await ana.is_paged(incident, patience=PATIENCE)
    return time.monotonic() - began


async def pages(ana: Person, sender: Sender) -> list[float]:
    """The times of pages, one after the other; each must arrive."""
    times: list[float] = []
    until = time.monotonic() + SECONDS
    while len(times) < PAGES or time.monotonic() < until:
        times.append(await page(ana, sender))
    return sorted(times)


@contextlib.asynccontextmanager
async def flooded(attack: Attack) -> AsyncIterator[list[int]]:
    """Attacks from `AT_ONCE` tasks while the block runs; counts them."""
    done = [0]

    async def repeat() -> None:
        while True:
            await attack()
            done[0] += 1
            await asyncio.sleep(PAUSE)

    tasks = [asyncio.create_task(repeat()) for _ in range(AT_ONCE)]
    try:
        yield done
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [each for each in ended if not isinstance(each, asyncio.CancelledError)] == []


@pytest.fixture
async def flooder(world: World) -> Tenant:
    """A tenant that an operator has given little."""
    tenant = world.tenant()
    limits = world.operator().limits["ingest"]
    allowed = {"alerts_per_second": 5, "rpcs_per_second": 50}
    await limits.UpdateTenantLimits(UpdateTenantLimitsRequest(org_id=tenant.org_id, allowed=allowed))
    return tenant


@pytest.mark.parametrize("who", ["stranger", "tenant"])
async def test_every_page_arrives_beside_a_flood(world: World, flooder: Tenant, who: str) -> None:
    victim = world.tenant()
    [ana] = await victim.people("ana")
    sender = await victim.integration(await victim.policy([ana]))
    key = (await flooder.integration()).key
    url = f"{world.stack.services['ingest'][0].http_url}/v1/alertmanager"
    calm = await pages(ana, sender)

    async with aiohttp.ClientSession() as http:

        async def by_http(token: str) -> None:
            alert = {"status": "firing", "labels": {"alertname": secrets.token_hex(4)}}
            body = {"version": "4", "alerts": [alert]}
            async with http.post(url, json=body, headers={"Authorization": f"Bearer {token}"}) as response:
                assert response.status < 500 or response.status == 503, await response.text()

        async def attack() -> None:
            if who == "tenant":
                await by_http(key)
                return
            await by_http(f"tik_{secrets.token_urlsafe(32)}")
            rpc = secrets.choice(RPCS)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await rpc.call(world, b"", bearer(secrets.token_urlsafe(64)))

        async with flooded(attack) as done:
            beside = await pages(ana, sender)
    assert done[0] > 0
    assert len(victim.unexpected()) == 0
    if SECONDS:
        tail = [times[min(len(times) - 1, len(times) * 99 // 100)] for times in (calm, beside)]
        assert tail[1] <= MOST_SLOWER * max(tail[0], FLOOR), (
            f"p99 {tail[0]:.3f} s calm, {tail[1]:.3f} s beside {done[0]}"
        )
