"""No member of the team answers, and the company is paged."""

from tocsin.escalation.v1 import incident_pb2 as ip
from tocsin.escalation.v1 import policy_service_pb2 as pp
from tocsin_testkit.tenant import Tenant


async def test_a_policy_that_no_user_answers_hands_on_to_the_next_one(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    await tenant.policy([ben], minutes=60, turn_minutes=0, name="company")
    await tenant.policy([ana], minutes=5, name="team", next_policy="policies/company")
    incident = await (await tenant.integration("policies/team")).triggers("db down")
    await ana.is_paged(incident, level=1)
    await tenant.passes(minutes=5, seconds=10)
    await ben.is_paged(incident, level=1)
    said = {entry.kind: entry.message for entry in await tenant.timeline(incident)}
    assert said[ip.TIMELINE_KIND_HANDED_ON] == "nobody answered on policies/team; policies/company goes on"
    assert (await tenant.incident(incident)).policy == "policies/company"
    await ana.acknowledges(incident)
    await ben.is_told(incident, "acknowledgment")

    checked = await tenant.admin.policies.CheckPolicy(pp.CheckPolicyRequest(policy="policies/team"))
    assert [step.kind for step in checked.forecasts[0].steps] == [
        ip.TIMELINE_KIND_LEVEL_PAGED,
        ip.TIMELINE_KIND_HANDED_ON,
    ]
    await tenant.admin.policies.DeletePolicy(pp.DeletePolicyRequest(name="policies/company"))
    read = await tenant.admin.policies.GetPolicy(pp.GetPolicyRequest(name="policies/team"))
    assert [each.kind for each in read.policy.warnings] == [pp.POLICY_WARNING_KIND_NEXT_POLICY]
