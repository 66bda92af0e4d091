"""Calls of ingest to escalation."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import grpc
from tocsin.escalation.v1.incident_service_pb2 import SimulateIncidentResponse
from tocsin.escalation.v1.internal_service_pb2 import (
    ApplyIncidentEventsRequest,
    CheckPoliciesRequest,
    CompareIncidentsRequest,
    IncidentClaim,
    IncidentEvent,
    IncidentEventResult,
    IncidentStanding,
    ListOpenIncidentsRequest,
    SimulateEventRequest,
)
from tocsin.escalation.v1.internal_service_pb2_grpc import EscalationInternalServiceStub
from tocsin_kit.errors import from_rpc_error
from tocsin_kit.ids import format_name, parse_uuid_name
from tocsin_kit.rpc.hedge import hedged

from tocsin_ingest.app.incidents.reconcile import OpenThere
from tocsin_ingest.domain.differences import Standing

if TYPE_CHECKING:
    # Exists in the generated types only: the same stub, with awaitable answers.
    from tocsin.escalation.v1.internal_service_pb2_grpc import EscalationInternalServiceAsyncStub

_SERVICE: Final = "escalation"
_FORESEE_SECONDS: Final = 10.0
"""Weeks of many schedules are simulated, after other simulations that are under way."""


class Escalation:
    """Calls with the deadlines that suit their callers, in seconds."""

    def __init__(self, channel: grpc.aio.Channel, *, check_seconds: float, apply_seconds: float) -> None:
        self._stub: EscalationInternalServiceAsyncStub = EscalationInternalServiceStub(channel)
        self._check_seconds = check_seconds
        self._apply_seconds = apply_seconds

    async def missing(self, org_id: str, policies: Iterable[str]) -> frozenset[str]:
        """Those of the policies that do not exist. Raises SERVICE_UNAVAILABLE."""
        request = CheckPoliciesRequest(org_id=org_id, policies=policies)
        try:
            response = await hedged(self._stub.CheckPolicies, request, seconds=self._check_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=_SERVICE) from error
        return frozenset(response.missing)

    async def standings(self, wanted: Sequence[tuple[str, UUID]]) -> list[Standing | None]:
        """The states of these incidents (tenant, id) in escalation, in their order; None: unknown. Raises SERVICE_UNAVAILABLE."""
        claims = [IncidentClaim(org_id=org_id, incident=format_name("incidents", each)) for org_id, each in wanted]
        try:
            response = await self._stub.CompareIncidents(
                CompareIncidentsRequest(incidents=claims), timeout=self._apply_seconds
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=_SERVICE) from error
        return [_standing(each) for each in response.standings]

    async def open_after(self, after: UUID | None, limit: int) -> list[OpenThere]:
        """Incidents that are not resolved there, by id, behind `after`. Raises SERVICE_UNAVAILABLE."""
        request = ListOpenIncidentsRequest(after=format_name("incidents", after) if after else "", limit=limit)
        try:
            response = await self._stub.ListOpenIncidents(request, timeout=self._apply_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=_SERVICE) from error
        return [
            OpenThere(each.org_id, parse_uuid_name(each.incident, "incidents"), each.sequence)
            for each in response.incidents
        ]

    async def foresee(self, event: IncidentEvent, time: datetime | None) -> SimulateIncidentResponse:
        """What would happen if this event came. Raises INCIDENT_NOT_FOUND, INVALID_FIELD, SERVICE_UNAVAILABLE."""
        request = SimulateEventRequest(event=event)
        request.event.event_id = "simulated"
        if time is not None:
            request.time.FromDatetime(time)
        try:
            response = await self._stub.SimulateEvent(request, timeout=_FORESEE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=_SERVICE) from error
        return response.plan

    async def apply(self, events: Sequence[IncidentEvent]) -> Sequence[IncidentEventResult.ValueType]:
        """One result per event. Raises SERVICE_UNAVAILABLE and any other error that escalation answered."""
        request = ApplyIncidentEventsRequest(events=events)
        try:
            response = await hedged(self._stub.ApplyIncidentEvents, request, seconds=self._apply_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=_SERVICE) from error
        return response.results


def _standing(given: IncidentStanding) -> Standing | None:
    if not given.known:
        return None
    time = given.resolve_time.ToDatetime(UTC) if given.HasField("resolve_time") else None
    return Standing(given.resolved, given.sequence, time)
