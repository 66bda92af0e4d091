"""A warning may wait for an hour; the same incident as critical may not."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tocsin.escalation.v1 import incident_pb2 as ip
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1 import policy_service_pb2
from tocsin.escalation.v1 import schedule_pb2 as sp
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


async def test_the_user_who_acknowledged_the_warning_is_told_that_it_became_critical(tenant: Tenant) -> None:
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


async def test_a_warning_of_the_night_waits_for_the_morning_and_the_explanation_says_so(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    made = await tenant.admin.policies.GetPolicy(policy_service_pb2.GetPolicyRequest(name=await tenant.policy([ben])))
    began: datetime = made.policy.create_time.ToDatetime(UTC)
    evening, morning = began - timedelta(hours=1), began + timedelta(hours=3)
    night = sp.Window(
        days=sp.Weekday.values()[1:],
        start=f"{evening:%H:%M}",
        end=f"{morning:%H:%M}",
        end_days_later=(morning.date() - evening.date()).days,
    )
    deferred = policy_service_pb2.UrgencyRule(
        urgency=policy_service_pb2.PAGE_URGENCY_DEFERRED,
        condition=policy_service_pb2.LevelCondition(
            severities=[WARNING, severity_pb2.SEVERITY_INFO], windows=[night], time_zone="UTC"
        ),
    )
    policy = await tenant.policy([ana], minutes=60, name="calm", urgency_rules=[deferred])
    read = (await tenant.admin.policies.GetPolicy(policy_service_pb2.GetPolicyRequest(name=policy))).policy
    assert list(read.urgency_rules) == [deferred]
    check = await tenant.admin.policies.CheckPolicy(
        policy_service_pb2.CheckPolicyRequest(policy=policy, severity=WARNING)
    )
    assert check.forecasts[0].steps[0].kind == ip.TIMELINE_KIND_LEVEL_DEFERRED
    plan = await tenant.admin.incidents.SimulateIncident(pb.SimulateIncidentRequest(policy=policy, severity=WARNING))
    assert [step.kind for step in plan.steps[:3]] == [
        ip.TIMELINE_KIND_OPENED,
        ip.TIMELINE_KIND_LEVEL_DEFERRED,
        ip.TIMELINE_KIND_LEVEL_PAGED,
    ]
    prom = await tenant.integration(policy)
    incident = await prom.triggers("disk 80 % full", severity=WARNING)
    other = await prom.triggers("disk 90 % full", dedup_key="other", severity=WARNING)
    await tenant.passes(minutes=120)
    assert ana.pages(incident) == []
    told = await tenant.admin.incidents.ExplainPage(pb.ExplainPageRequest(incident=incident, user=ana.name))
    assert told.verdict == pb.PAGE_VERDICT_NOT_PAGED
    assert "urgency rule 1 of the policy defers it" in told.summary
    assert told.next_page_time.ToDatetime(UTC) == morning.replace(second=0, microsecond=0)
    await prom.sends("disk full", dedup_key="other")
    await ana.is_paged(other, level=1)
    await ana.acknowledges(other)
    await tenant.passes(minutes=70)
    await ana.is_paged(incident, level=1)
