"""What SimulateAlert answers."""

from collections.abc import Sequence

from tocsin.ingest.v1.alert_service_pb2 import RuleTrial, SimulateAlertResponse
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher
from tocsin_kit.ids import format_name

from tocsin_ingest.app.alerts.simulate_alert import Simulated, explain, shown
from tocsin_ingest.app.alerts.simulate_pages import Pages
from tocsin_ingest.domain.routing import Trial
from tocsin_ingest.store.alerts.decisions import earlier, passed, progress


def simulated_to(simulated: Simulated, pages: Pages | None) -> SimulateAlertResponse:
    """The answer. `pages`: None if they were not asked for."""
    decision, message, route = simulated.decision, simulated.message, simulated.route
    response = SimulateAlertResponse(
        outcome=decision.outcome,  # type: ignore[arg-type]  # the numbers are the enum's own
        dedup_key=message.dedup_key,
        incident_resolved=decision.incident_resolved,
        trials=[_trial(each, simulated.taken(each.rule)) for each in simulated.tried],
        rule=None if route.rule is None else route.rule.place,
        policy=message.policy,
        severity=message.severity,  # type: ignore[arg-type]
        group_by=route.group_by,
        matching_silences=[format_name("silences", each.id) for each in message.silences],
        explanation=explain(simulated),
    )
    response.time.FromDatetime(simulated.time)
    if route.group_window is not None:
        response.group_window.FromTimedelta(route.group_window)
    if message.dedup_window is not None:
        response.dedup_window.FromTimedelta(message.dedup_window)
    if pages is not None:
        response.explanation.extend(pages.explanation)
        if pages.plan is not None:
            response.pages.CopyFrom(pages.plan)
    if decision.alert is not None:
        response.count = decision.alert.count
        if not simulated.new_alert:
            response.alert = format_name("alerts", decision.alert.id)
        if decision.alert.hold is not None:
            response.silence = format_name("silences", decision.alert.hold.silence_id)
        if decision.alert.pause is not None:
            response.pause_end_time.FromDatetime(decision.alert.pause.until)
        if decision.alert.below is not None:
            response.threshold.CopyFrom(progress(decision.alert.below))
    if decision.passed is not None:
        response.passed.CopyFrom(passed(decision.passed))
    if decision.earlier is not None:
        response.earlier.CopyFrom(earlier(decision.earlier))
    if decision.incident is not None and not simulated.new_incident:
        response.incident = format_name("incidents", decision.incident.id)
    return response


def _trial(trial: Trial, taken: Sequence[str]) -> RuleTrial:
    unmet = trial.unmet
    if unmet is None:
        return RuleTrial(rule=trial.rule.place, matches=True, taken=taken)
    matcher = LabelMatcher(label=unmet.label, operator=unmet.operator, value=unmet.value)  # type: ignore[arg-type]
    return RuleTrial(rule=trial.rule.place, unmet=matcher, value=shown(trial))
