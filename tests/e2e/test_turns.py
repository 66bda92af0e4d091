"""Round robin, as the people on call live with it: one phone rings, and the next one only after a miss."""

from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1 import policy_service_pb2 as pp
from tocsin_testkit.tenant import Tenant


async def test_each_incident_rings_one_phone_and_the_next_one_after_a_miss(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    core = await tenant.team("core", ana, ben)
    policy = await tenant.policy([core, cem], minutes=60, turn_minutes=10, name="rota")
    prom = await tenant.integration(policy)
    first = await prom.triggers("db down")
    await ana.is_paged(first, level=1)
    second = await prom.triggers("disk full")
    await ben.is_paged(second, level=1)
    await ana.acknowledges(first)
    await tenant.passes(minutes=11)
    await cem.is_paged(second, level=1)
    await cem.acknowledges(second)
    await ben.is_told(second, "acknowledgment")
    explained = await tenant.admin.incidents.ExplainPage(pb.ExplainPageRequest(incident=second, user="users/ana"))
    assert explained.verdict == pb.PAGE_VERDICT_NOT_PAGED
    assert "the level pages one in turn: it was the turn of users/" in explained.summary
    await tenant.passes(minutes=120)


async def test_a_person_without_a_phone_costs_no_time_and_the_policy_warns_of_it(tenant: Tenant) -> None:
    ana, mute = await tenant.person("ana"), await tenant.person("mute", webhook=False)
    core = await tenant.team("core", mute, ana)
    policy = await tenant.policy([core], minutes=60, turn_minutes=0, name="rota")
    read = await tenant.admin.policies.GetPolicy(pp.GetPolicyRequest(name=policy))
    assert read.policy.levels[0].mode == pp.LEVEL_MODE_IN_TURN
    assert [(each.kind, each.level) for each in read.policy.warnings] == [(pp.POLICY_WARNING_KIND_TURN, 1)]
    assert "passes over the turns of some people of teams/core" in read.policy.warnings[0].message
    plan = await tenant.admin.incidents.SimulateIncident(pb.SimulateIncidentRequest(policy=policy))
    assert [list(step.paged_users) for step in plan.steps if step.paged_users] == [["users/mute"], ["users/ana"]]
    incident = await (await tenant.integration(policy)).triggers("db down")
    await ana.is_paged(incident, level=1)
    await ana.acknowledges(incident)
