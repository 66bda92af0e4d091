"""A replica that is stopped is worse than a dead one: it keeps its locks and leases, and no other process is told."""

import time

import pytest
from tocsin.escalation.v1 import incident_service_pb2
from tocsin_testkit.busy import within
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet, insist, spread, tell
from tests.chaos.load import ON_ITS_WAY, Load

pytestmark = pytest.mark.chaos

STANDSTILL = 3
"""Seconds; less than any lease, so that no replica may take over the frozen one's calls."""


async def test_a_frozen_replica_holds_up_no_incident_but_its_own(fleet: Fleet, tenant: Tenant) -> None:
    """It stands still inside the transaction that pages level 2 of one incident.

    Others' levels are paged in time, and its own as soon as PostgreSQL has thrown it out.
    """
    ana, ben = await tenant.people("ana", "ben")
    soon = await tenant.integration(await tenant.policy([ana], [ben], minutes=1 / 60, name="soon"))
    later = await tenant.integration(await tenant.policy([ana], [ben], minutes=3 / 60, name="later"))
    condition = f"NEW.org_id = '{tenant.org_id}' AND NEW.level = 2 AND NEW.policy_id = 'soon'"
    async with fleet.breakpoint("escalation", "escalations", "UPDATE", condition) as point:
        others = [await later.triggers("other", dedup_key=f"other {number}") for number in range(9)]
        held = await soon.triggers("held")
        first = {incident: await ana.is_paged(incident, level=1) for incident in (held, *others)}
        frozen = await point.reached()
        frozen.pause()
        await point.let_go()
        late = [(await ben.is_paged(other, level=2)).at - first[other].at - 3 for other in others]
        own = (await ben.is_paged(held, level=2)).at - first[held].at - 1
    tell("frozen inside a transaction", own_ms=round(own * 1000), **spread(late))
    assert max(late) < within(2)
    assert own < within(10)


async def test_a_replica_that_stands_still_delays_no_new_incident_by_its_deadline(fleet: Fleet, tenant: Tenant) -> None:
    """Hand-overs go to the frozen one as well, which would keep each of them for five seconds."""
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    for service in ("escalation", "notify"):
        frozen = fleet.replicas(service)[0]
        frozen.pause()
        late = []
        for number in range(5):
            incident = await prom.triggers("db down", dedup_key=f"{service} {number}")
            accepted = time.monotonic()
            late.append((await ana.is_paged(incident)).at - accepted)
        tell(f"{service} frozen and idle", **spread(late))
        assert max(late) < within(3), "the second of the page's row, and 0.7 s until another replica is asked"
        frozen.resume()
        await fleet.idle()


async def test_an_acknowledge_is_ok_soon_while_a_notify_stands_still_with_its_page(
    fleet: Fleet, tenant: Tenant
) -> None:
    """The frozen one is in the transaction that pages Ben. Its locks delay no cancel, and it calls no one afterwards.

    On a machine that has no time for this test it is thrown out before the acknowledge, and the other one pages Ben.
    """
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=60))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident)
    condition = f"NEW.org_id = '{tenant.org_id}' AND NEW.user_id = 'users/ben' AND NEW.state = 'sending'"
    async with fleet.breakpoint("notify", "notifications", "INSERT", condition) as point:
        await ana.own.incidents.EscalateIncident(incident_service_pb2.EscalateIncidentRequest(name=incident))
        frozen = await point.reached()
        frozen.pause()
        await point.let_go()
        began = time.monotonic()
        await insist(lambda: ana.acknowledges(incident))
        ok = time.monotonic()
        took = ok - began
    frozen.resume()
    await ben.is_told(incident, "acknowledgment")
    await fleet.idle()
    for page in ben.pages(incident):
        assert page.at < ok + ON_ITS_WAY, "a page that began after the OK"
        tenant.expected(page)
    tell("acknowledge, and notify frozen in the gate", took_ms=round(took * 1000))
    assert took < within(5)
    await tenant.passes(minutes=60)


@pytest.mark.long
async def test_replicas_stand_still_under_load_and_go_on(fleet: Fleet, tenant: Tenant) -> None:
    """One of each service. It finishes its work afterwards, unless another replica has taken it over."""
    load = await Load.prepare(tenant)
    async with load.under_way() as dice:
        frozen = [dice.choice(fleet.replicas(service)) for service in fleet.stack.services]
        await fleet.for_a_while(dice.uniform(0.3, 1))
        for replica in frozen:
            replica.pause()
        await fleet.for_a_while(STANDSTILL)
        for replica in frozen:
            replica.resume()
        await fleet.for_a_while(0.5)
    await load.outcome("frozen under load", on_its_way=STANDSTILL + ON_ITS_WAY)
