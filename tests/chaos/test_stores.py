"""The stores die, forget, hang and come back."""

import shutil
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_testkit.databases import dialed
from tocsin_testkit.tenant import Tenant
from tocsin_timers import TimerBroker

from tests.chaos.fleet import Fleet, eventually, insist
from tests.chaos.load import Load

pytestmark = pytest.mark.chaos


@pytest.mark.long
async def test_redis_is_flushed_killed_and_replaced_under_load(fleet: Fleet, tenant: Tenant) -> None:
    load = await Load.prepare(tenant)
    async with load.under_way() as dice:
        await fleet.for_a_while(dice.uniform(0.3, 0.8))
        await _flush(fleet)
        await fleet.for_a_while(dice.uniform(0.3, 0.8))
        fleet.valkey.kill()
        await fleet.valkey.start()  # with what its append-only file holds
        await fleet.for_a_while(dice.uniform(0.3, 0.8))
        fleet.valkey.kill()
        shutil.rmtree(fleet.valkey.data_dir / "appendonlydir")
        await fleet.valkey.start()  # with nothing
        await fleet.for_a_while(dice.uniform(0.3, 0.8))
    await load.outcome("Redis flushed, killed, replaced")


async def test_redis_is_flushed_between_the_stream_and_the_row(fleet: Fleet, tenant: Tenant) -> None:
    """Notify was handed a page through Redis and is gone before it has read it; so is what Redis held."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    fleet.kill("notify")
    stream = TimerBroker(fleet.valkey.url, "notify")
    try:
        incident = await prom.triggers("db down")
        await eventually(lambda: _waiting(stream), "the page is in the stream")
        await _flush(fleet)
    finally:
        await stream.shutdown()
    await fleet.heal()
    await ana.is_paged(incident)
    await tenant.passes(minutes=1)


@pytest.mark.long
async def test_redis_is_gone_for_ten_minutes(fleet: Fleet, tenant: Tenant) -> None:
    load = await Load.prepare(tenant)
    cem, dan, eva = await tenant.people("cem", "dan", "eva")
    slow = await tenant.integration(await tenant.policy([cem], [dan], [eva], minutes=4))
    fleet.valkey.kill()
    async with load.under_way():
        incident = await slow.triggers("db down")
        await cem.is_paged(incident, level=1)
        await fleet.for_a_while(3)
    for person, level in ((dan, 2), (eva, 3)):
        await tenant.passes(minutes=4)
        await person.is_paged(incident, level=level)
    await tenant.passes(minutes=2)
    await fleet.valkey.start()
    await load.outcome("Redis gone", but={incident})
    await tenant.passes(minutes=10)


@pytest.mark.long
async def test_redis_is_full(fleet: Fleet, tenant: Tenant) -> None:
    """It takes nothing new and fires what it has. No user notices: the pages go from row to row by RPC."""
    load = await Load.prepare(tenant)
    cem, dan = await tenant.people("cem", "dan")
    prom = await tenant.integration(await tenant.policy([cem], [dan], minutes=5))
    before = await prom.triggers("before")
    await cem.is_paged(before, level=1)
    await fleet.armed(before)
    redis: Any = Redis.from_url(fleet.valkey.url)
    try:
        await redis.config_set("maxmemory", 1)
        async with load.under_way():
            meanwhile = await prom.triggers("meanwhile")
            await cem.is_paged(meanwhile, level=1)
            await fleet.for_a_while(1)
        await tenant.passes(minutes=5)
        for incident in (before, meanwhile):
            await dan.is_paged(incident, level=2)
            await dan.acknowledges(incident)
            await cem.is_told(incident, "acknowledgment")
    finally:
        await redis.config_set("maxmemory", 0)
        await redis.aclose()
    await load.outcome("Redis full", but={before, meanwhile})


@pytest.mark.long
async def test_postgresql_is_killed_under_load(fleet: Fleet, tenant: Tenant) -> None:
    """Callers are told UNAVAILABLE and repeat the same request; nothing is lost, and nothing done twice.

    Some may have stopped waiting before (DEADLINE_EXCEEDED) where the machine has no time for them.
    """
    load = await Load.prepare(tenant)
    async with load.under_way() as dice:
        await fleet.for_a_while(dice.uniform(0.3, 0.8))
        fleet.postgres.kill()
        await fleet.for_a_while(dice.uniform(0.1, 1))
        await fleet.postgres.start()
        await fleet.for_a_while(dice.uniform(0.3, 0.8))
        fleet.postgres.kill()
        # A call that comes meanwhile waits half a second for it, which may be enough, and then gets an error.
        await eventually(lambda: _refused(load), "somebody is told")
        await fleet.postgres.start()
        await fleet.for_a_while(1)
    await load.outcome("PostgreSQL killed")
    assert set(load.refusals) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


@pytest.mark.long
async def test_the_stores_hang_under_load(fleet: Fleet, tenant: Tenant) -> None:
    """Connections stay open and nothing answers: first Redis, then PostgreSQL, longer than their clients wait."""
    load = await Load.prepare(tenant)
    async with load.under_way():
        for store in (fleet.valkey, fleet.postgres):
            await fleet.for_a_while(0.5)
            store.pause()
            await fleet.for_a_while(2.5)
            store.resume()
        await fleet.for_a_while(0.5)
    await load.outcome("stores hang")


async def test_a_provider_answers_while_postgresql_is_away(fleet: Fleet, tenant: Tenant) -> None:
    """What it said is kept until it can be written down: the page is not sent again."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    provider = fleet.holds_back(ana.addresses[0])
    incident = await prom.triggers("db down")
    await provider.reached()
    fleet.postgres.kill()
    provider.answers()
    await ana.is_paged(incident)
    await fleet.for_a_while(1.5)  # longer than a caller waits for a database
    await fleet.postgres.start()
    written = "SELECT NOT EXISTS (SELECT FROM notifications WHERE org_id = $1 AND state = 'sending')"
    await fleet.until("notify", written, tenant.org_id)
    await tenant.passes(minutes=30)


async def test_while_postgresql_is_away_nothing_is_accepted_and_health_says_so(fleet: Fleet, tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    fleet.postgres.kill()
    id = "0d9c6c61-6d0b-4f0e-8e53-0a5d6a1b2c3d"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await prom.sends("db down", request_id=id)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    for replica in fleet.replicas():
        await fleet.not_serving(replica)
    await fleet.postgres.start()
    answer = await insist(lambda: prom.sends("db down", request_id=id))
    again = await insist(lambda: prom.sends("db down", request_id=id))
    assert (answer.incident, answer.count) == (again.incident, again.count) == (answer.incident, 1)
    await ana.is_paged(answer.incident)


async def test_a_database_that_hangs_is_unavailable_and_no_defect(fleet: Fleet) -> None:
    """A process that keeps something because of it (an outcome, a row) must keep it and try again, not give it up as broken."""
    database = await dialed(fleet.stack.plan.databases["notify"], name="hanging", statement_timeout=0.1)
    try:
        for within in (True, False):
            with pytest.raises(TocsinError) as refused:
                await _hangs(fleet, database, within=within)
            fleet.postgres.resume()
            assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    finally:
        fleet.postgres.resume()
        await database.close()


async def _hangs(fleet: Fleet, database: Database, *, within: bool) -> None:
    """The server stands still for longer than the driver waits (0.2 s): in a transaction, or at its COMMIT."""
    async with database.system() as tx:
        await tx.execute("SELECT 1")
        fleet.postgres.pause()
        if within:
            await tx.execute("SELECT 1")


async def _waiting(stream: TimerBroker) -> int:
    return (await stream.figures()).waiting


async def _refused(load: Load) -> bool:
    return "UNAVAILABLE" in load.refusals


async def _flush(fleet: Fleet) -> None:
    async with Redis.from_url(fleet.valkey.url) as redis:
        await redis.flushall()
