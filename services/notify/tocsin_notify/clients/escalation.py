"""Escalation, as notify sees it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

import grpc
from tocsin.escalation.v1 import internal_service_pb2 as pb
from tocsin.escalation.v1.internal_service_pb2_grpc import EscalationInternalServiceStub
from tocsin_kit.errors import from_rpc_error
from tocsin_kit.rpc.hedge import hedged

if TYPE_CHECKING:
    # Exists in the generated types only: the same stub, with awaitable answers.
    from tocsin.escalation.v1.internal_service_pb2_grpc import EscalationInternalServiceAsyncStub

QUARTER: Final = timedelta(minutes=15)
"""The length of the intervals for which escalation keeps figures."""
_OPEN_SECONDS: Final = 2.0
_STOPS_SECONDS: Final = 1.0
"""Pages wait for it."""
_SUMMARIZE_SECONDS: Final = 20.0
"""Escalation handles a tenant's calls one after the other."""
_RESOLVE_SECONDS: Final = 3.0
_APPLY_SECONDS: Final = 5.0
"""Shorter than the part of the relay's lease that a delivery may use."""


class Escalation:
    """Every call has a deadline; every failure is a TocsinError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: EscalationInternalServiceAsyncStub = EscalationInternalServiceStub(channel)

    async def apply(self, outcomes: Sequence[pb.PageOutcome]) -> Sequence[pb.PageOutcomeResult.ValueType]:
        """One result per outcome. Raises SERVICE_UNAVAILABLE and any other error that escalation answered."""
        request = pb.ApplyPageOutcomesRequest(outcomes=outcomes)
        try:
            response = await hedged(self._stub.ApplyPageOutcomes, request, seconds=_APPLY_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="escalation") from error
        return response.results

    async def open_feeds(self, org_ids: Sequence[str]) -> None:
        """Have the events of these tenants' incidents handed over. Raises SERVICE_UNAVAILABLE."""
        request = pb.OpenEventFeedsRequest(org_ids=org_ids)
        try:
            await hedged(self._stub.OpenEventFeeds, request, seconds=_OPEN_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="escalation") from error

    async def stops(self, incidents: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], pb.IncidentStop]:
        """For each of these incidents (tenant, id) that pages no one now, what stopped its pages.

        Raises SERVICE_UNAVAILABLE and the errors of escalation.
        """
        claims = [pb.IncidentClaim(org_id=org_id, incident=f"incidents/{id}") for org_id, id in incidents]
        request = pb.CompareIncidentsRequest(incidents=claims, stops=True)
        try:
            response = await hedged(self._stub.CompareIncidents, request, seconds=_STOPS_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="escalation") from error
        asked = zip(incidents, response.standings, strict=True)
        return {incident: each.stop for incident, each in asked if each.HasField("stop")}

    async def unknown(self, org_id: str, incidents: Sequence[UUID]) -> frozenset[UUID]:
        """Those of these, at most 1000, that the tenant does not have. Raises SERVICE_UNAVAILABLE and what escalation
        answered."""
        claims = [pb.IncidentClaim(org_id=org_id, incident=f"incidents/{id}") for id in incidents]
        try:
            response = await hedged(
                self._stub.CompareIncidents, pb.CompareIncidentsRequest(incidents=claims), seconds=_STOPS_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="escalation") from error
        return frozenset(id for id, each in zip(incidents, response.standings, strict=True) if not each.known)

    async def resolve(self, org_id: str, targets: Sequence[str], time: datetime) -> Sequence[pb.Receivers]:
        """The people of these teams and schedules of a tenant at a time, one list per target.

        Raises SERVICE_UNAVAILABLE and the errors of escalation.
        """
        request = pb.GetReceiversRequest(org_id=org_id, targets=targets)
        request.time.FromDatetime(time)
        try:
            # Without waiting, a sender would be refused whenever a replica of escalation restarts.
            ask = partial(self._stub.GetReceivers, wait_for_ready=True)
            response = await hedged(ask, request, seconds=_RESOLVE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="escalation") from error
        return response.receivers

    async def summarize(
        self, org_id: str, users: Sequence[str], start: datetime, end: datetime
    ) -> pb.SummarizeForDigestsResponse:
        """The figures for digests of these users of a tenant over [start, end). Raises SERVICE_UNAVAILABLE and what
        escalation answered.

        Asked once: a repeat would only wait behind the first call.
        """
        return await self._summarize(org_id, users, start, end, _SUMMARIZE_SECONDS)

    async def has_user(self, org_id: str, user: str, now: datetime) -> bool:
        """Whether the tenant has this user, and has not disabled them. Raises SERVICE_UNAVAILABLE and what escalation answered."""
        end = quarter_of(now)
        found = await self._summarize(org_id, [user], end - QUARTER, end, _RESOLVE_SECONDS)
        return bool(found.people)

    async def _summarize(
        self, org_id: str, users: Sequence[str], start: datetime, end: datetime, seconds: float
    ) -> pb.SummarizeForDigestsResponse:
        request = pb.SummarizeForDigestsRequest(org_id=org_id, users=users)
        request.start_time.FromDatetime(start)
        request.end_time.FromDatetime(end)
        try:
            return await self._stub.SummarizeForDigests(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="escalation") from error


def quarter_of(time: datetime) -> datetime:
    """The start of the quarter of an hour that contains this time."""
    return time.replace(minute=time.minute // 15 * 15, second=0, microsecond=0)
