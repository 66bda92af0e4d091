"""A warning may wait for an hour; the same incident as critical may not."""

from typing import Any

from tocsin.escalation.v1 import policy_service_pb2
from tocsin.type.v1 import severity_pb2
from tocsin_testkit.tenant import Sender, Tenant

WARNING = severity_pb2.SEVERITY_WARNING


async def calm(tenant: Tenant, **policy: Any) -> Sender:
    """Ana, who wants to hear of warnings an hour later, and an integration that pages her."""
    ana = await tenant.person("ana")
    await ana.wants(("high", ana.methods[0], 0), ("low", ana.methods[0], 60))
    return await tenant.integration(await tenant.policy([ana], minutes=240, **policy))


async def test_a_warning_that_becomes_critical_rings_at_once(tenant: Tenant) -> None:
    prom = await calm(tenant)
    ana = tenant.everybody["ana"]
    incident = await prom.triggers("disk 80 % full", dedup_key="disk", severity=WARNING)
    await tenant.passes(minutes=5)
    assert ana.pages(incident) == []
    await prom.sends("disk full", dedup_key="disk")
    page = await ana.is_paged(incident, level=1)
    assert page.subject.startswith("[critical]")
    await tenant.passes(minutes=70)  # the page of low urgency has been superseded: nothing more comes


async def test_whoever_acknowledged_the_warning_is_told_that_it_became_critical(tenant: Tenant) -> None:
    prom = await calm(tenant)
    ana = tenant.everybody["ana"]
    incident = await prom.triggers("disk 80 % full", dedup_key="disk", severity=WARNING)
    assert await tenant.incidents_titled("disk 80 % full") == [incident]
    await ana.acknowledges(incident)
    await prom.sends("disk full", dedup_key="disk")
    told = await ana.is_told(incident, "urgency_raised")
    assert told.subject == "[critical] disk 80 % full (became urgent)"
    await tenant.passes(minutes=300)


async def test_a_policy_can_leave_it_at_a_note(tenant: Tenant) -> None:
    prom = await calm(tenant, urgency_raise=policy_service_pb2.URGENCY_RAISE_NOTE)
    ana = tenant.everybody["ana"]
    incident = await prom.triggers("disk 80 % full", dedup_key="disk", severity=WARNING)
    await prom.sends("disk full", dedup_key="disk")
    await tenant.passes(minutes=5)
    assert ana.pages(incident) == []
    await tenant.passes(minutes=60)
    await ana.is_paged(incident)
