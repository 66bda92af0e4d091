"""What a responder does besides answering: asks for help, begins again, corrects what the incident says."""

import json

from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1 import policy_service_pb2 as pb_policy
from tocsin.type.v1 import severity_pb2, target_pb2
from tocsin_testkit.tenant import Tenant

BEN = target_pb2.Target(user="users/ben")


async def test_ana_takes_it_and_asks_ben_to_help(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], minutes=60))
    incident = await prom.triggers("db down")
    await ana.is_paged(incident, level=1)
    await ana.acknowledges(incident)
    asked = await ana.own.incidents.AddResponders(pb.AddRespondersRequest(name=incident, targets=[BEN]))
    page = await ben.is_paged(incident, level=1)
    assert json.loads(page.body)["actor"] == "users/ana", "they see who asks for them"
    assert (asked.incident.state, list(asked.incident.assignees)) == (
        incident_pb2.INCIDENT_STATE_ACKNOWLEDGED,
        ["users/ana", "users/ben"],
    )
    await ana.resolves(incident)
    await ben.is_told(incident, "resolution")
    await tenant.passes(minutes=120)


async def test_who_hands_over_or_passes_on_is_named_to_whoever_is_woken_for_it(tenant: Tenant) -> None:
    """An incident that is handed over was answered: "nobody has answered yet" would be false, and would not say why it is Ben."""
    ana, ben = await tenant.people("ana", "ben")
    prom = await tenant.integration(await tenant.policy([ana], [ben], minutes=60))
    handed = await prom.triggers("db down")
    await ana.is_paged(handed, level=1)
    await ana.acknowledges(handed)
    await ana.own.incidents.ReassignIncident(pb.ReassignIncidentRequest(name=handed, targets=pb.Targets(targets=[BEN])))
    assert json.loads((await ben.is_paged(handed)).body)["actor"] == "users/ana"
    await ben.resolves(handed)
    await ana.is_told(handed, "resolution")
    passed = await prom.triggers("disk full")
    await ana.is_paged(passed, level=1)
    await ana.own.incidents.EscalateIncident(pb.EscalateIncidentRequest(name=passed))
    assert json.loads((await ben.is_paged(passed, level=2)).body)["actor"] == "users/ana"
    await ben.resolves(passed)
    await ana.is_told(passed, "resolution")


async def test_the_policy_begins_again_with_what_was_changed_in_it_meanwhile(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    policy = await tenant.policy([ana], minutes=60, name="night")
    incident = await (await tenant.integration(policy)).triggers("db down")
    await ana.is_paged(incident, level=1)
    await ana.acknowledges(incident)
    changed = await tenant.admin.policies.GetPolicy(pb_policy.GetPolicyRequest(name=policy))
    del changed.policy.levels[0].targets[:]
    changed.policy.levels[0].targets.append(BEN)
    await tenant.admin.policies.UpdatePolicy(pb_policy.UpdatePolicyRequest(policy=changed.policy))
    await ana.own.incidents.RestartIncident(pb.RestartIncidentRequest(name=incident))
    await ben.is_paged(incident, level=1)
    await ben.acknowledges(incident)
    await ana.is_told(incident, "acknowledgment")


async def test_a_warning_that_a_person_calls_critical_rings(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    await ana.wants(("high", ana.methods[0], 0), ("low", ana.methods[0], 60))
    prom = await tenant.integration(await tenant.policy([ana], minutes=240))
    incident = await prom.triggers("disk 80 % full", dedup_key="disk", severity=severity_pb2.SEVERITY_WARNING)
    assert await tenant.incidents_titled("disk 80 % full") == [incident]
    worse = pb.UpdateIncidentRequest(name=incident, title="disk full", severity=severity_pb2.SEVERITY_CRITICAL)
    edited = await ben.own.incidents.UpdateIncident(worse)
    assert (edited.incident.title, edited.incident.severity) == ("disk full", severity_pb2.SEVERITY_CRITICAL)
    page = await ana.is_paged(incident, level=1)
    assert page.subject == "[critical] disk full (level 1)"
    await ana.acknowledges(incident)
    await tenant.passes(minutes=120)
