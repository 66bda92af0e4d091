"""Escalation, as notify sees it."""

from collections.abc import Sequence
from typing import Any

import grpc
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.escalation.v1.internal_service_pb2_grpc import (
    EscalationInternalServiceServicer,
    add_EscalationInternalServiceServicer_to_server,
)
from tocsin.notify.v1 import digest_pb2

from tocsin_testkit.fake_responders import FakeResponders


class FakeEscalation(EscalationInternalServiceServicer):
    """Keeps what notify tells of pages, in the order in which it came; `responders` keeps what people answer."""

    def __init__(self) -> None:
        self.outcomes: list[escalation_pb.PageOutcome] = []
        self.feeds: set[str] = set()
        self.digests: dict[str, escalation_pb.SummarizeForDigestsResponse] = {}
        self.tells_nothing_of: set[str] = set()
        self.digest_questions: list[escalation_pb.SummarizeForDigestsRequest] = []
        self.people: dict[tuple[str, str], Sequence[str]] = {}
        self.knows_nobody_of: set[str] = set()
        self.stops: dict[str, escalation_pb.IncidentStop] = {}
        self.stop_questions: list[list[str]] = []
        self.tells_no_stops = False
        self.unknown_incidents: set[str] = set()
        self.responders = FakeResponders()  # type: ignore[abstract]

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server()
        add_EscalationInternalServiceServicer_to_server(self, self._server)
        self.responders.add_to(self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def OpenEventFeeds(
        self, request: escalation_pb.OpenEventFeedsRequest, context: Any
    ) -> escalation_pb.OpenEventFeedsResponse:
        self.feeds |= set(request.org_ids)
        return escalation_pb.OpenEventFeedsResponse()

    async def SummarizeForDigests(
        self, request: escalation_pb.SummarizeForDigestsRequest, context: Any
    ) -> escalation_pb.SummarizeForDigestsResponse:
        """What `digests` has for the tenant; by default a day with one incident, for everybody who is asked for."""
        self.digest_questions.append(request)
        if request.org_id in self.tells_nothing_of:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the figures cannot be read")
        return self.digests.get(request.org_id) or escalation_pb.SummarizeForDigestsResponse(
            figures=digest_pb2.DigestFigures(opened=1),
            people=[digest_pb2.DigestPerson(user=user) for user in request.users],
        )

    async def GetReceivers(
        self, request: escalation_pb.GetReceiversRequest, context: Any
    ) -> escalation_pb.GetReceiversResponse:
        """What `people` has for the tenant and the team or schedule."""
        if request.org_id in self.knows_nobody_of:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the directory cannot be read")
        found = [self.people.get((request.org_id, target)) for target in request.targets]
        return escalation_pb.GetReceiversResponse(
            receivers=[
                escalation_pb.Receivers(exists=each is not None, users=each or (), count=len(each or ()))
                for each in found
            ]
        )

    async def CompareIncidents(
        self, request: escalation_pb.CompareIncidentsRequest, context: Any
    ) -> escalation_pb.CompareIncidentsResponse:
        """What `stops` has for the incidents, of whichever tenant; all are known but those of `unknown_incidents`."""
        asked = [each.incident for each in request.incidents]
        if request.stops:
            self.stop_questions.append(asked)
        if self.tells_no_stops:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the incidents cannot be read")
        return escalation_pb.CompareIncidentsResponse(
            standings=[
                escalation_pb.IncidentStanding(known=each not in self.unknown_incidents, stop=self.stops.get(each))
                for each in asked
            ]
        )

    async def ApplyPageOutcomes(
        self, request: escalation_pb.ApplyPageOutcomesRequest, context: Any
    ) -> escalation_pb.ApplyPageOutcomesResponse:
        self.outcomes += request.outcomes
        applied = escalation_pb.PAGE_OUTCOME_RESULT_APPLIED
        return escalation_pb.ApplyPageOutcomesResponse(results=[applied] * len(request.outcomes))
