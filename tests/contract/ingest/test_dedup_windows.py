"""Keys with a dedup window, through a real socket: what a trigger becomes, what is simulated before, and what is told later."""

from google.protobuf.duration_pb2 import Duration
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_RESOLVED, AlertInput, AlertOutcome
from tocsin.ingest.v1.integration_service_pb2 import GetIntegrationRequest, RoutingRule

from tests.contract.ingest.test_explain_alert import FALLBACK, again
from tests.contract.ingest.test_simulate import Caller, caller, later
from tests.store.ingest.support import FakeEscalation, Ingest, bearer, until

WINDOW = RoutingRule(dedup_window=Duration(seconds=300))
DISK = AlertInput(dedup_key="disk", summary="x")
OPENED = AlertOutcome.ALERT_OUTCOME_OPENED
REPEATED = AlertOutcome.ALERT_OUTCOME_DEDUPLICATED


async def minutes_pass(here: Caller, minutes: int) -> None:
    """For the alerts of this tenant alone: others share the database."""
    async with here.ingest.database.transaction(here.org) as tx:
        await tx.execute(
            "UPDATE alerts SET last_receive_time = last_receive_time - make_interval(mins => $2) WHERE org_id = $1",
            here.org,
            minutes,
        )


async def test_what_fires_again_too_late_is_another_alert_in_another_incident(
    ingest: Ingest, escalation: FakeEscalation
) -> None:
    here = await caller(ingest, WINDOW)
    first = await here.sends(DISK)
    for _ in range(2):
        await minutes_pass(here, 3)
        repeated = await here.sends(DISK)
        assert (repeated.outcome, repeated.alert) == (REPEATED, first.alert), "it rolls"
    await minutes_pass(here, 6)
    second = await here.sends(DISK)
    assert (second.outcome, second.count) == (OPENED, 1)
    assert (second.alert, second.incident) != (first.alert, first.incident)
    await until(lambda: escalation.kinds(second.incident) == ["opened", "noted"])
    await until(lambda: escalation.kinds(first.incident)[-1] == "noted")
    assert "resolved" not in escalation.kinds(first.incident)

    [decision] = (await here.explains(second.alert)).decisions
    assert (decision.earlier.alert, decision.earlier.incident) == (first.alert, first.incident)
    assert decision.dedup_window == Duration(seconds=300)
    assert decision.time.seconds - decision.earlier.last_trigger_time.seconds >= 360
    assert (await again(here, second.alert))[1:] == [
        f"T: rule 0 of routing v1 matched, {FALLBACK}; "
        f"it came too late to repeat {first.alert}, whose last trigger came at T, and ended that; it opened I",
        "no other key shares its incident",
        "it is firing, in I",
    ]
    old = await here.explains(first.alert)
    assert old.alert.state == ALERT_STATE_RESOLVED
    assert old.decisions[-1].later_alert == second.alert
    assert (await again(here, first.alert))[-2:] == [
        f"T: a trigger came 5 minutes or longer after the last one: {second.alert} began, and this alert ended",
        "it was resolved at T; I is open",
    ]


async def test_it_is_said_before_what_would_become_of_a_trigger_at_a_given_time(ingest: Ingest) -> None:
    here = await caller(ingest, WINDOW)
    first = await here.sends(DISK)
    now = await here.simulates(DISK)
    assert (now.outcome, now.alert, now.HasField("earlier")) == (REPEATED, first.alert, False)
    assert now.dedup_window == Duration(seconds=300)
    assert "a trigger repeats its alert only within 5 minutes of the last one" in now.explanation
    then = await here.simulates(DISK, time=later(0.1))
    assert (then.outcome, then.alert, then.incident, then.count) == (OPENED, "", "", 1)
    assert (then.earlier.alert, then.earlier.incident) == (first.alert, first.incident)
    last = f"{then.earlier.last_trigger_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
    assert list(then.explanation)[-2:] == [
        f"{first.alert} would end, as its last trigger came at {last}; {first.incident} stays open",
        "a new incident would be opened, and its people paged",
    ]
    # Nothing of it was stored.
    assert (await here.sends(DISK)).alert == first.alert


async def test_the_window_is_shown_with_its_rule(ingest: Ingest) -> None:
    here = await caller(ingest, WINDOW)
    request = GetIntegrationRequest(name=here.integration)
    shown = (await ingest.integrations.GetIntegration(request, metadata=bearer(here.org))).integration
    assert list(shown.routing_rules) == [WINDOW]
