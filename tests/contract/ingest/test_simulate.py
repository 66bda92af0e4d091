"""SimulateAlert says what SendAlert then does, and does nothing itself."""

import random
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason as R
from tocsin.ingest.v1.alert_pb2 import (
    ALERT_ACTION_ACKNOWLEDGE,
    ALERT_ACTION_RESOLVE,
    ALERT_ACTION_TRIGGER,
    AlertInput,
    AlertOutcome,
)
from tocsin.ingest.v1.alert_service_pb2 import (
    ExplainAlertRequest,
    ExplainAlertResponse,
    ListAlertsRequest,
    SendAlertRequest,
    SendAlertResponse,
    SimulateAlertRequest,
    SimulateAlertResponse,
)
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator, RoutingRule, TriggerThreshold
from tocsin.ingest.v1.silence_service_pb2 import CreateSilenceRequest, Silence, SilenceRecurrence
from tocsin.type.v1.severity_pb2 import Severity
from tocsin_ingest.app.alerts.admission import ALERTS
from tocsin_ingest.app.alerts.look_again import LookAgain
from tocsin_ingest.app.alerts.simulate_alert import Simulation
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.domain.decision import Outcome as O
from tocsin_ingest.metrics import IngestMetrics
from tocsin_kit.budgets import Budgets, per_second
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_kit.metrics import Metrics

from tests.store.ingest.support import Ingest, bearer, new_org

EQUAL, MATCHES, NOT = (
    MatchOperator.MATCH_OPERATOR_EQUAL,
    MatchOperator.MATCH_OPERATOR_MATCHES,
    MatchOperator.MATCH_OPERATOR_NOT_EQUAL,
)


class Caller:
    """One tenant with one integration."""

    def __init__(self, ingest: Ingest, org: str, integration: str) -> None:
        self.ingest, self.org, self.integration = ingest, org, integration

    async def simulates(self, alert: AlertInput, **fields: Any) -> SimulateAlertResponse:
        request = SimulateAlertRequest(integration=self.integration, alert=alert, **fields)
        return await self.ingest.alerts.SimulateAlert(request, metadata=bearer(self.org))

    async def explains(self, alert: str) -> ExplainAlertResponse:
        return await self.ingest.alerts.ExplainAlert(ExplainAlertRequest(name=alert), metadata=bearer(self.org))

    async def sends(self, alert: AlertInput) -> SendAlertResponse:
        request = SendAlertRequest(integration=self.integration, alert=alert)
        return await self.ingest.alerts.SendAlert(request, metadata=bearer(self.org))

    async def silences(self, **fields: Any) -> Silence:
        request = CreateSilenceRequest(silence=Silence(reason="work", **fields))
        if not fields.get("end_time"):
            request.duration.CopyFrom(Duration(seconds=3600))
        return (await self.ingest.silences.CreateSilence(request, metadata=bearer(self.org))).silence


async def caller(ingest: Ingest, *rules: RoutingRule, default_policy: str = "") -> Caller:
    org = new_org()
    name, _ = await ingest.integration(org, rules=rules, default_policy=default_policy)
    return Caller(ingest, org, name)


def later(hours: float) -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    stamp.FromDatetime(stamp.ToDatetime() + timedelta(hours=hours))
    return stamp


async def test_it_says_which_rule_decides_and_why_the_others_do_not(ingest: Ingest) -> None:
    team = LabelMatcher(label="team", operator=EQUAL, value="web")
    here = await caller(
        ingest,
        RoutingRule(matchers=[LabelMatcher(label="env", operator=MATCHES, value="dev|test")], suppress=True),
        RoutingRule(matchers=[team], group_by=["host"], severity=Severity.SEVERITY_WARNING),
        RoutingRule(matchers=[]),
    )
    alert = AlertInput(dedup_key="k", summary="disk full", labels={"env": "prod", "team": "web", "host": "db-1"})
    found = await here.simulates(alert)
    assert (found.outcome, found.rule, found.severity) == (
        AlertOutcome.ALERT_OUTCOME_OPENED,
        1,
        Severity.SEVERITY_WARNING,
    )
    assert [(trial.rule, trial.matches, trial.value) for trial in found.trials] == [(0, False, "prod"), (1, True, "")]
    assert found.trials[0].unmet.value == "dev|test"
    assert list(found.group_by) == ["host"]
    assert (found.alert, found.incident, found.count) == ("", "", 1)
    assert list(found.explanation) == [
        "rule 0 does not match: env =~ 'dev|test' does not hold for 'prod'",
        "rule 1 matches: severity warning, the tenant's fallback policy",
        "alerts that agree in host share an incident",
        "a new incident would be opened, and its people paged",
    ]
    dev = await here.simulates(AlertInput(dedup_key="k", summary="x", labels={"env": "dev"}))
    assert (dev.outcome, dev.rule) == (AlertOutcome.ALERT_OUTCOME_SUPPRESSED, 0)
    nothing = await here.ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(here.org))
    assert list(nothing.alerts) == []


async def test_it_knows_what_silences_hold_then(ingest: Ingest) -> None:
    """Now, in two hours, and in the third week of a silence that comes again every day."""
    here = await caller(ingest)
    env = LabelMatcher(label="env", operator=EQUAL, value="prod")
    alert = AlertInput(dedup_key="k", summary="disk full", labels={"env": "prod"})
    soon = await here.silences(matchers=[env], start_time=later(2), end_time=later(3))
    now = await here.simulates(alert)
    assert (now.outcome, now.silence, list(now.matching_silences)) == (AlertOutcome.ALERT_OUTCOME_OPENED, "", [])
    then = await here.simulates(alert, time=later(2.5))
    assert (then.outcome, then.silence) == (AlertOutcome.ALERT_OUTCOME_SILENCED, soon.name)
    until = f"{soon.end_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
    assert f"{soon.name} holds it back until {until}: nobody would be paged before" in then.explanation
    after = await here.simulates(alert, time=later(3.5))
    assert after.outcome == AlertOutcome.ALERT_OUTCOME_OPENED
    daily = await here.silences(
        matchers=[env],
        start_time=later(10),
        end_time=later(11),
        recurrence=SilenceRecurrence(time_zone="UTC", until_time=later(24 * 40)),
    )
    third = await here.simulates(alert, time=later(24 * 15 + 10.5))
    assert (third.outcome, third.silence) == (AlertOutcome.ALERT_OUTCOME_SILENCED, daily.name)


async def test_any_alert_becomes_what_was_said(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random rules, silences and alerts that trigger, acknowledge and resolve."""

    async def nothing(*_: object) -> None:
        """Alerts below a threshold join the incident that it opens, by a loop: between what is said and what is done, perhaps."""

    monkeypatch.setattr(LookAgain, "_look_at_all", nothing)
    random_ = random.Random(11)
    actions = (ALERT_ACTION_TRIGGER, ALERT_ACTION_TRIGGER, ALERT_ACTION_ACKNOWLEDGE, ALERT_ACTION_RESOLVE)
    three = TriggerThreshold(count=3, window=Duration(seconds=600))
    keeping: list[dict[str, Any]] = [{"pause": Duration(seconds=600)}, {"threshold": three}]
    options = ({}, {}, {"suppress": True}, *keeping, *({"continue_matching": True} | each for each in ({}, *keeping)))
    together = 0
    met, decided = set[int](), set[int]()
    for _ in range(16):
        rules = [
            RoutingRule(
                matchers=[
                    LabelMatcher(
                        label=random_.choice(("a", "b", "summary", "severity")),
                        operator=random_.choice((EQUAL, MATCHES, NOT)),
                        value=random_.choice(("1", "2", "critical", "1|2")),
                    )
                ],
                group_by=random_.choice(([], ["a"], ["a", "b"])),
                severity=random_.choice((0, 1, 3)),  # type: ignore[arg-type]
                **random_.choice(options),
            )
            for _ in range(random_.randrange(5))
        ]
        here = await caller(ingest, *rules)
        if random_.random() < 0.5:
            matcher = LabelMatcher(label="b", operator=EQUAL, value=random_.choice("12"))
            await here.silences(matchers=[matcher])
        ended, known = set[str](), dict[str, int]()
        for _ in range(15):
            alert = AlertInput(
                action=random_.choice(actions),
                dedup_key=random_.choice("xyz"),
                summary=random_.choice(("1", "2")),
                severity=random_.choice((0, 1, 4)),  # type: ignore[arg-type]
                labels={name: random_.choice("12") for name in random_.choice(("", "a", "ab"))},
            )
            said, done = await here.simulates(alert), await here.sends(alert)
            met.add(done.outcome)
            told = await here.explains(done.alert) if done.alert else None
            if told is not None and len(told.decisions) > known.get(done.alert, 0):
                known[done.alert] = len(told.decisions)
                last = told.decisions[-1]
                assert (last.outcome, last.policy) == (done.outcome, said.policy)
                assert list(last.group_by) == list(said.group_by)
                assert (last.HasField("rule"), last.rule) == (said.HasField("rule"), said.rule)
                if last.contributions:
                    together += 1
                    taken = [(each.rule, list(each.taken)) for each in said.trials if each.taken]
                    assert [(each.rule, list(each.taken)) for each in last.contributions] == taken
                decided.add(done.outcome)
            assert (said.outcome, said.dedup_key, said.silence, said.count, said.incident_resolved) == (
                done.outcome,
                done.dedup_key,
                done.silence,
                done.count,
                done.incident_resolved,
            )
            assert said.HasField("pause_end_time") == done.HasField("pause_end_time")
            assert said.threshold == done.threshold
            assert said.incident in ("", done.incident)
            assert said.alert in ("", done.alert)
            assert bool(said.incident) == (bool(done.incident) and done.outcome != AlertOutcome.ALERT_OUTCOME_OPENED)
            ended |= {said.incident} if done.incident_resolved else set()
    assert met == set(range(1, 11)), "each outcome was met"
    assert together, "rules that continue were met"
    assert decided == {O.OPENED, O.GROUPED, O.SUPPRESSED, O.SILENCED, O.PAUSED, O.BELOW_THRESHOLD}


async def test_what_is_no_alert_is_refused_as_it_would_be(ingest: Ingest) -> None:
    here = await caller(ingest)
    for request, reason in (
        (SimulateAlertRequest(integration=here.integration), R.ERROR_REASON_INVALID_FIELD),
        (
            SimulateAlertRequest(integration="integrations/none", alert=AlertInput(summary="x", dedup_key="k")),
            R.ERROR_REASON_INTEGRATION_NOT_FOUND,
        ),
        (
            SimulateAlertRequest(integration=here.integration, alert=AlertInput(summary="x" * 10_000)),
            R.ERROR_REASON_INVALID_FIELD,
        ),
        *(
            (
                SimulateAlertRequest(integration=here.integration, alert=AlertInput(summary="x"), time=time),
                R.ERROR_REASON_INVALID_FIELD,
            )
            for time in (Timestamp(seconds=-62135596800), later(-1), later(24 * 401), Timestamp(seconds=253402300799))
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await here.ingest.alerts.SimulateAlert(request, metadata=bearer(here.org))
        assert from_rpc_error(caught.value).reason == reason


async def test_it_costs_what_an_alert_costs_and_compiles_silences_of_another_time_once(ingest: Ingest) -> None:
    here = await caller(ingest)
    budgets = Budgets([per_second(ALERTS, 10)], Metrics(), clock=lambda: 0.0)
    directory = Directory(ingest.database, IngestMetrics(CollectorRegistry()))
    simulation, alert = Simulation(ingest.database, directory, budgets), AlertInput(dedup_key="k", summary="x")
    used = 0

    async def costs(**ahead: float) -> int:
        """Alerts that one counts for."""
        nonlocal used
        time = later(ahead["hours"]).ToDatetime(UTC) if ahead else None
        await simulation.of(here.org, here.integration.removeprefix("integrations/"), "users/ana", alert, time)
        left = max(left for left in range(101) if budgets.has(here.org, ALERTS, left))
        cost, used = 100 - left - used, 100 - left
        return cost

    for number in range(2):
        matcher = LabelMatcher(label="a", operator=MATCHES, value=f"{number}|x.*")
        await here.silences(matchers=[matcher], start_time=later(2), end_time=later(3))
    assert [await costs(), await costs(hours=1)] == [1, 1], "none is in force then"
    assert await costs(hours=2.5) == 1 + 5, "half of what a second allows, at most"
    assert await costs(hours=2.6) == 1
    budgets.take(here.org, ALERTS, 100 - used)
    with pytest.raises(TocsinError) as caught:
        await costs()
    assert caught.value.reason == R.ERROR_REASON_RATE_LIMITED


async def test_pages_are_not_made_up_while_escalation_is_away(ingest: Ingest) -> None:
    there, alert = await caller(ingest), AlertInput(summary="it broke")
    may_ask = bearer(there.org, ("alerts:read", "incidents:read"))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ingest.alerts.SimulateAlert(SimulateAlertRequest(alert=alert, simulate_pages=True), metadata=may_ask)
    assert from_rpc_error(raised.value, service="ingest").reason == R.ERROR_REASON_SERVICE_UNAVAILABLE
    assert (await there.simulates(alert)).outcome == AlertOutcome.ALERT_OUTCOME_OPENED, "it still says what it knows"
