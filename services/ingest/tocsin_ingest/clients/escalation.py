"""What ingest asks of escalation."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import grpc
from tocsin.escalation.v1.internal_service_pb2 import (
    ApplyIncidentEventsRequest,
    CheckPoliciesRequest,
    IncidentEvent,
    IncidentEventResult,
)
from tocsin.escalation.v1.internal_service_pb2_grpc import EscalationInternalServiceStub
from tocsin_kit.errors import from_rpc_error
from tocsin_kit.rpc.hedge import hedged

if TYPE_CHECKING:
    # Exists in the generated types only: the same stub, with awaitable answers.
    from tocsin.escalation.v1.internal_service_pb2_grpc import EscalationInternalServiceAsyncStub

_SERVICE = "escalation"


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
            response = await self._stub.CheckPolicies(request, timeout=self._check_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=_SERVICE) from error
        return frozenset(response.missing)

    async def apply(self, events: Sequence[IncidentEvent]) -> Sequence[IncidentEventResult.ValueType]:
        """One result per event. Raises SERVICE_UNAVAILABLE and whatever else escalation answered."""
        request = ApplyIncidentEventsRequest(events=events)
        try:
            response = await hedged(self._stub.ApplyIncidentEvents, request, seconds=self._apply_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=_SERVICE) from error
        return response.results
