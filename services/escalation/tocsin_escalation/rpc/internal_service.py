"""EscalationInternalService: what ingest tells and asks."""

from datetime import UTC
from typing import Any

import grpc
from tocsin.escalation.v1 import internal_service_pb2 as pb
from tocsin.escalation.v1 import internal_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.server import current_call

from tocsin_escalation.app.apply_events import Arrival, Opening, Result, apply_events
from tocsin_escalation.app.effects import Effects
from tocsin_escalation.domain.escalation import Facts
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Event, Resolved
from tocsin_escalation.store import policies, standings

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_PAGE = 500
RESULTS = {
    Result.APPLIED: pb.INCIDENT_EVENT_RESULT_APPLIED,
    Result.DUPLICATE: pb.INCIDENT_EVENT_RESULT_DUPLICATE,
    Result.OUT_OF_ORDER: pb.INCIDENT_EVENT_RESULT_OUT_OF_ORDER,
    Result.UNKNOWN_INCIDENT: pb.INCIDENT_EVENT_RESULT_UNKNOWN_INCIDENT,
}


class EscalationInternalService(pb_grpc.EscalationInternalServiceServicer):
    """What ingest tells and asks."""

    def __init__(self, db: Database, effects: Effects) -> None:
        self._db = db
        self._effects = effects

    async def ApplyIncidentEvents(
        self, request: pb.ApplyIncidentEventsRequest, context: Context
    ) -> pb.ApplyIncidentEventsResponse:
        current_call().require_internal()
        arrivals = [_arrival(event, position) for position, event in enumerate(request.events)]
        results = await apply_events(self._db, self._effects, arrivals)
        return pb.ApplyIncidentEventsResponse(results=[RESULTS[result] for result in results])

    async def CompareIncidents(
        self, request: pb.CompareIncidentsRequest, context: Context
    ) -> pb.CompareIncidentsResponse:
        """How each incident stands here; unknown ones too, in the order of the request."""
        current_call().require_internal()
        claims = [
            (claim.org_id, parse_uuid_name(claim.incident, "incidents", field=f"incidents[{position}].incident"))
            for position, claim in enumerate(request.incidents)
        ]
        async with self._db.system() as tx:
            known = await standings.of(tx, claims)
        answers = [known.get(claim) for claim in claims]
        return pb.CompareIncidentsResponse(
            standings=[
                pb.IncidentStanding(known=True, resolved=found.resolved, sequence=found.sequence)
                if found
                else pb.IncidentStanding()
                for found in answers
            ]
        )

    async def ListOpenIncidents(
        self, request: pb.ListOpenIncidentsRequest, context: Context
    ) -> pb.ListOpenIncidentsResponse:
        """One page of what is not resolved here, of all tenants."""
        current_call().require_internal()
        after = parse_uuid_name(request.after, "incidents", field="after") if request.after else None
        async with self._db.system() as tx:
            found = await standings.open_after(tx, after, request.limit or DEFAULT_PAGE)
        return pb.ListOpenIncidentsResponse(
            incidents=[
                pb.OpenIncident(org_id=each.org_id, incident=f"incidents/{each.incident_id}", sequence=each.sequence)
                for each in found
            ]
        )

    async def CheckPolicies(self, request: pb.CheckPoliciesRequest, context: Context) -> pb.CheckPoliciesResponse:
        org_id = current_call().acting_for(request.org_id)
        ids = [name.removeprefix("policies/") for name in request.policies]
        async with self._db.transaction(org_id) as tx:
            missing = await policies.missing(tx, org_id, ids)
        return pb.CheckPoliciesResponse(missing=[f"policies/{id_}" for id_ in missing])


def _arrival(message: pb.IncidentEvent, position: int) -> Arrival:
    incident_id = parse_uuid_name(message.incident, "incidents", field=f"events[{position}].incident")
    return Arrival(message.org_id, incident_id, message.sequence, _event(message))


def _event(message: pb.IncidentEvent) -> Opening | Event:
    match message.WhichOneof("event"):
        case "opened":
            opened = message.opened
            facts = Facts(
                title=opened.title,
                source=opened.source,
                severity=opened.severity,
                integration=opened.integration,
                create_time=message.create_time.ToDatetime(UTC),
                labels=dict(opened.labels),
                links=tuple((link.href, link.text) for link in opened.links),
                alert_count=opened.alert_count,
            )
            return Opening(
                facts,
                opened.policy.removeprefix("policies/"),
                opened.anew_because,
                opened.resolved_by,
                tuple(opened.left_out),
            )
        case "alerts_added":
            added = message.alerts_added
            return AlertsAdded(added.alert_count, added.severity, added.summary, added.new_keys)
        case "acknowledged":
            return Acknowledged(message.acknowledged.actor)
        case _:
            return Resolved(message.resolved.actor, message.resolved.because)
