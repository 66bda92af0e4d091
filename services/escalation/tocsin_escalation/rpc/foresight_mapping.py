"""Explanations and simulations as contract messages."""

from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.app.foresight.explain import Explained
from tocsin_escalation.app.foresight.foresee import Foreseen
from tocsin_escalation.domain.explanation import Statement
from tocsin_escalation.domain.simulate import SimulatedEntry
from tocsin_escalation.rpc.mapping import STATES


def explained_to(found: Explained) -> pb.ExplainPageResponse:
    """The answer of ExplainPage."""
    explanation = found.explanation
    return pb.ExplainPageResponse(
        verdict=pb.PageVerdict.Value(f"PAGE_VERDICT_{explanation.verdict.upper()}"),
        summary=explanation.summary,
        statements=list(map(_statement, explanation.statements)),
        next_page_time=timestamp(explanation.next_page),
        deliveries_known=found.deliveries_known,
        truncated=found.truncated,
    )


def foreseen_to(found: Foreseen) -> pb.SimulateIncidentResponse:
    """The answer of SimulateIncident."""
    return pb.SimulateIncidentResponse(
        steps=list(map(step_to, found.plan.steps)),
        end_state=STATES.get(found.plan.end.state, incident_pb2.INCIDENT_STATE_UNSPECIFIED),
        truncated=found.plan.truncated,
        reachability_known=found.reachability_known,
    )


def _statement(statement: Statement) -> pb.ExplanationStatement:
    return pb.ExplanationStatement(
        kind=pb.ExplanationKind.Value(f"EXPLANATION_KIND_{statement.about.upper()}"),
        message=statement.message,
        time=timestamp(statement.time),
        evidence=statement.evidence,
        level=statement.level,
    )


def step_to(step: SimulatedEntry) -> pb.SimulatedStep:
    """A step for the contract."""
    return pb.SimulatedStep(
        time=timestamp(step.time),
        kind=incident_pb2.TimelineKind.Value(f"TIMELINE_KIND_{step.note.kind.upper()}"),
        message=step.note.message,
        level=step.note.level,
        repeat=step.run.repeat,
        paged_users=[f"users/{page.user}" for page in step.note.pages],
        state=STATES.get(step.run.state, incident_pb2.INCIDENT_STATE_UNSPECIFIED),
    )
