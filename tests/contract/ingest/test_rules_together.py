"""Rules that continue, through a real socket: what an alert becomes, what is simulated before, and what is told later."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from tocsin.ingest.v1.alert_pb2 import AlertInput, AlertOutcome
from tocsin.ingest.v1.integration_service_pb2 import Integration, RoutingRule, UpdateIntegrationRequest
from tocsin.type.v1.severity_pb2 import Severity

from tests.contract.ingest.test_explain_alert import again, for_env
from tests.contract.ingest.test_simulate import Caller
from tests.store.ingest.support import FakeEscalation, Ingest, bearer, new_org, until

TEAM = RoutingRule(display_name="team", policy="policies/db", group_by=["cluster"], continue_matching=True)


def alert(key: str, env: str) -> AlertInput:
    return AlertInput(dedup_key=key, summary="x", labels={"env": env, "cluster": "c1"})


async def test_rules_behind_add_what_is_not_stated_and_a_second_policy_is_ignored(
    ingest: Ingest, escalation: FakeEscalation
) -> None:
    org = new_org()
    escalation.policies |= {"policies/db", "policies/web"}
    warning = for_env("prod", policy="policies/web", severity=Severity.SEVERITY_WARNING)
    flapping = for_env("test", pause=Duration(seconds=60), continue_matching=True)
    silent = for_env("dev", suppress=True)
    late = for_env("dev", pause=Duration(seconds=60), continue_matching=True)
    name, _ = await ingest.integration(org, rules=[TEAM, warning, flapping, late, silent])
    here = Caller(ingest, org, name)

    said = await here.simulates(alert("a", "prod"))
    assert [(each.rule, each.matches, list(each.taken)) for each in said.trials] == [
        (0, True, ["policy", "group_by"]),
        (1, True, ["severity"]),
    ]
    assert (said.rule, said.policy, said.severity) == (1, "policies/db", Severity.SEVERITY_WARNING)
    assert said.explanation[0] == (
        "rule 0 (policy, group_by) and rule 1 (severity) match: severity warning, policy policies/db"
    )
    opened = await here.sends(alert("a", "prod"))
    assert opened.outcome == AlertOutcome.ALERT_OUTCOME_OPENED
    await until(lambda: escalation.kinds(opened.incident) == ["opened"])
    event = escalation.events[opened.incident][0].opened
    assert (event.policy, event.severity) == ("policies/db", Severity.SEVERITY_WARNING)
    assert (await again(here, opened.alert))[1] == (
        "T: rule 0 'team' (policy, group_by) and rule 1 (severity) of routing v1 matched, with policies/db; it opened I"
    )

    # Of one group: it joins what is open, paused or not, since the first rule groups it.
    joined = await here.sends(alert("b", "test"))
    assert (joined.outcome, joined.incident) == (AlertOutcome.ALERT_OUTCOME_GROUPED, opened.incident)
    found = (await here.explains(joined.alert)).decisions[0]
    assert (found.policy, found.rule, list(found.group_by)) == ("policies/db", 2, ["cluster"])
    assert [(each.rule, each.rule_name, list(each.taken)) for each in found.contributions] == [
        (0, "team", ["policy", "group_by"]),
        (2, "", ["pause"]),
    ]

    suppressed = await here.sends(alert("c", "dev"))
    assert suppressed.outcome == AlertOutcome.ALERT_OUTCOME_SUPPRESSED
    assert not suppressed.HasField("pause_end_time")
    assert [each.rule for each in (await here.explains(suppressed.alert)).decisions[0].contributions] == [0, 4]

    # Without it the first rule ends the search again.
    alone = RoutingRule()
    alone.CopyFrom(TEAM)
    alone.continue_matching = False
    update = UpdateIntegrationRequest(
        integration=Integration(name=name, routing_rules=[alone, silent]),
        update_mask=FieldMask(paths=["routing_rules"]),
    )
    await ingest.integrations.UpdateIntegration(update, metadata=bearer(org))
    after = await here.simulates(alert("c", "dev"))
    assert (after.rule, [list(each.taken) for each in after.trials]) == (0, [["policy", "group_by"]])
    assert after.explanation[0] == "rule 0 matches: severity critical, policy policies/db"
