"""A level that is for severe incidents only, as its people live with it."""

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import incident_pb2 as ip
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1 import policy_service_pb2 as pp
from tocsin.type.v1 import severity_pb2
from tocsin_testkit.tenant import Tenant, target


async def test_a_warning_does_not_wake_the_level_for_severe_incidents_until_it_is_one(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    severe = pp.LevelCondition(severities=[severity_pb2.SEVERITY_CRITICAL, severity_pb2.SEVERITY_ERROR])
    levels = [
        pp.Level(targets=[target(ana)], timeout=Duration(seconds=3600), condition=severe),
        pp.Level(targets=[target(ben)], timeout=Duration(seconds=3600)),
    ]
    created = await tenant.admin.policies.CreatePolicy(
        pp.CreatePolicyRequest(policy_id="night", policy=pp.Policy(display_name="Night", levels=levels))
    )
    assert created.policy.levels[0].condition == severe
    prom = await tenant.integration("policies/night")
    incident = await prom.triggers("disk 80 % full", dedup_key="disk", severity=severity_pb2.SEVERITY_WARNING)
    await ben.is_paged(incident, level=2)
    passed = [entry for entry in await tenant.timeline(incident) if entry.kind == ip.TIMELINE_KIND_LEVEL_PASSED]
    assert [(entry.level, "severity warning" in entry.message) for entry in passed] == [(1, True)]
    warning = pb.SimulateIncidentRequest(policy="policies/night", severity=severity_pb2.SEVERITY_WARNING)
    plan = await tenant.admin.incidents.SimulateIncident(warning)
    assert [list(step.paged_users) for step in plan.steps if step.paged_users] == [["users/ben"]]
    await prom.triggers("disk full", dedup_key="disk", severity=severity_pb2.SEVERITY_CRITICAL)
    await ana.is_paged(incident, level=1)
    await ana.acknowledges(incident)
    await ben.is_told(incident, "acknowledgment")
