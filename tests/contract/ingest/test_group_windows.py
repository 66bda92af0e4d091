"""Groups with a window, through a real socket: what an alert becomes, what is simulated before, and what is told later."""

from google.protobuf.duration_pb2 import Duration
from tocsin.ingest.v1.alert_pb2 import AlertInput, AlertOutcome
from tocsin.ingest.v1.integration_service_pb2 import GetIntegrationRequest, RoutingRule

from tests.contract.ingest.test_explain_alert import FALLBACK, again
from tests.contract.ingest.test_simulate import Caller, caller, later
from tests.store.ingest.support import FakeEscalation, Ingest, bearer, until

GROUPS = RoutingRule(group_by=["team"], group_window=Duration(seconds=300))
SHARE = "unless the last one joined it 5 minutes ago or longer"


def alert(key: str) -> AlertInput:
    return AlertInput(dedup_key=key, summary="x", labels={"team": "web"})


async def minutes_pass(here: Caller, minutes: int) -> None:
    """For the groups of this tenant alone: others share the database."""
    async with here.ingest.database.transaction(here.org) as tx:
        await tx.execute(
            "UPDATE incidents SET last_join_time = last_join_time - make_interval(mins => $2) WHERE org_id = $1",
            here.org,
            minutes,
        )


async def test_an_alert_that_comes_too_late_opens_another_incident_beside_the_open_one(
    ingest: Ingest, escalation: FakeEscalation
) -> None:
    here = await caller(ingest, GROUPS)
    first = await here.sends(alert("a"))
    await minutes_pass(here, 3)
    joined = await here.sends(alert("b"))
    assert (joined.outcome, joined.incident) == (AlertOutcome.ALERT_OUTCOME_GROUPED, first.incident)
    await minutes_pass(here, 3)
    assert (await here.sends(alert("c"))).incident == first.incident, "it rolls"
    await minutes_pass(here, 6)
    repeated = await here.sends(alert("a"))
    assert (repeated.outcome, repeated.incident) == (AlertOutcome.ALERT_OUTCOME_DEDUPLICATED, first.incident)
    opened = await here.sends(alert("d"))
    assert opened.outcome == AlertOutcome.ALERT_OUTCOME_OPENED
    assert opened.incident != first.incident
    await until(lambda: escalation.kinds(opened.incident) == ["opened"])
    assert "resolved" not in escalation.kinds(first.incident)

    [decision] = (await here.explains(opened.alert)).decisions
    assert (decision.passed.incident, decision.group_window) == (first.incident, Duration(seconds=300))
    assert decision.time.seconds - decision.passed.last_join_time.seconds >= 360
    told = await again(here, opened.alert)
    assert told[1:] == [
        f"T: rule 0 of routing v1 matched, {FALLBACK}; "
        f"it came too late for {first.incident}, which the last alert had joined at T; it opened I",
        f"alerts of the integration and policy that agree in team ('web') share an incident, {SHARE}",
        "it is firing, in I",
    ]
    assert not (await here.explains(joined.alert)).decisions[0].HasField("passed")


async def test_it_is_said_before_what_would_become_of_an_alert_at_a_given_time(ingest: Ingest) -> None:
    here = await caller(ingest, GROUPS)
    first = await here.sends(alert("a"))
    now = await here.simulates(alert("b"))
    assert (now.outcome, now.incident) == (AlertOutcome.ALERT_OUTCOME_GROUPED, first.incident)
    assert (now.group_window, now.HasField("passed")) == (Duration(seconds=300), False)
    assert f"alerts that agree in team share an incident, {SHARE}" in now.explanation
    then = await here.simulates(alert("b"), time=later(0.1))
    assert (then.outcome, then.incident, then.passed.incident) == (
        *(AlertOutcome.ALERT_OUTCOME_OPENED, ""),
        first.incident,
    )
    joined = f"{then.passed.last_join_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
    assert list(then.explanation)[-2:] == [
        f"it would come too late for {first.incident}, which the last alert joined at {joined}",
        "a new incident would be opened, and its people paged",
    ]
    # Nothing of it was stored.
    assert (await here.sends(alert("b"))).incident == first.incident


async def test_the_window_is_shown_with_its_rule(ingest: Ingest) -> None:
    here = await caller(ingest, GROUPS)
    request = GetIntegrationRequest(name=here.integration)
    shown = (await ingest.integrations.GetIntegration(request, metadata=bearer(here.org))).integration
    assert list(shown.routing_rules) == [GROUPS]
