"""Processes that only serve, or only work, and what the others do while the other half of a service is missing."""

import asyncio
import sys

import grpc
import pytest
from tocsin_stack.output import Output
from tocsin_stack.process import Child
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import PASSING, Fleet, insist

pytestmark = pytest.mark.chaos


@pytest.mark.long
async def test_an_older_notify_that_does_not_know_the_call(fleet: Fleet, tenant: Tenant) -> None:
    """It answers UNIMPLEMENTED. What it was told is told again until a newer one takes it; no OK is given meanwhile."""
    ana, _ = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], ["users/ben"], minutes=60))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    older = await _halved(fleet, "work", "notify")
    try:
        second = await prom.triggers("disk full")
        await ana.is_paged(second)  # through Redis
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ana.acknowledges(incident)
        assert refused.value.code().name in PASSING
    finally:
        await asyncio.gather(*(each.stop() for each in older))
    await fleet.heal()
    await insist(lambda: ana.acknowledges(incident))
    await fleet.until("escalation", "SELECT NOT EXISTS (SELECT FROM outbox WHERE org_id = $1)", tenant.org_id)
    await ana.acknowledges(second)
    await tenant.passes(minutes=60)


@pytest.mark.long
async def test_what_serving_processes_committed_leaves_without_any_worker(fleet: Fleet, tenant: Tenant) -> None:
    """Serving and working apart, and no worker of ingest and escalation there: alerts become pages, and timers are armed."""
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=5))
    halves = await _halved(fleet, "serve", "ingest") + await _halved(fleet, "serve", "escalation")
    try:
        incident = await prom.triggers("db down")
        await ana.is_paged(incident, level=1)
        await fleet.armed(incident)
    finally:
        await asyncio.gather(*(half.stop() for half in halves))
    await fleet.heal()
    await tenant.passes(minutes=5)
    await ben.is_paged(incident, level=2)
    await tenant.passes(minutes=30)


async def _halved(fleet: Fleet, part: str, service: str) -> list[Child]:
    """Every replica of a service stops; in their places are processes that only serve, or only work."""
    replicas = fleet.replicas(service)
    await asyncio.gather(*(replica.stop() for replica in replicas))
    arguments = (sys.executable, "-m", f"tocsin_{service}", "serve", "--only", part)
    halves = [Child(arguments, Output(f"{service}-{part}", fleet.stack.log_dir), env=each.env) for each in replicas]
    for half in halves:
        half.start()
    await asyncio.gather(*(h.ready(each.is_serving, 20) for h, each in zip(halves, replicas, strict=True)))
    return halves
