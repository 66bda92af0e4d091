"""What was over before escalation heard of it wakes no one."""

import pytest
from tocsin.escalation.v1 import incident_pb2
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet, eventually

pytestmark = pytest.mark.chaos


async def test_what_is_over_when_escalation_is_back_pages_no_one_and_what_is_not_pages(
    fleet: Fleet, tenant: Tenant
) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    fleet.kill("escalation")
    over = [await prom.triggers(f"blip {number}", dedup_key=f"blip {number}") for number in range(5)]
    lasting = await prom.triggers("db down", dedup_key="db")
    for number in range(5):
        await prom.resolves(f"blip {number}")
    await fleet.heal()
    await ana.is_paged(lasting)

    async def are_over() -> bool:
        states = [(await tenant.incident(each)).state for each in over]
        return set(states) == {incident_pb2.INCIDENT_STATE_RESOLVED}

    await eventually(are_over, "the others are told as resolved")
    await fleet.idle()
    assert [page for each in over for page in ana.pages(each)] == []
    kinds = [entry.kind for entry in await tenant.timeline(over[0])]
    assert incident_pb2.TIMELINE_KIND_OPENED in kinds
    assert incident_pb2.TIMELINE_KIND_RESOLVED in kinds
