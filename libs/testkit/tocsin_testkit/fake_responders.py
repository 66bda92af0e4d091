"""An escalation that keeps what people answer, as far as notify's edges need it."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_status import rpc_status
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1.incident_pb2 import Incident
from tocsin.escalation.v1.incident_service_pb2_grpc import (
    IncidentServiceServicer,
    add_IncidentServiceServicer_to_server,
)
from tocsin.notify.v1.internal_service_pb2 import Cancellation, CancelNotificationsRequest
from tocsin_kit.errors import TocsinError, to_status
from tocsin_kit.rpc.beside import as_metadata
from tocsin_kit.rpc.validation import validate


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer. `who`: the subject of the credential that came with it."""

    action: str
    who: str
    incident: str
    via: str
    request_id: str
    text: str = ""


class FakeResponders(IncidentServiceServicer):
    """Away until `there` is set. Each answer is refused with `refuses`, if that is set."""

    def __init__(self) -> None:
        self.there = False
        self.refuses: ErrorReason.ValueType | None = None
        self.answers: list[Answered] = []
        self.incidents: list[Incident] = []
        """What is open, with its assignees, newest first."""
        self.stops: list[Cancellation] = []
        """What each answer stops: it is sent beside escalation's answer to a service."""
        self.shown: list[str] = []
        """What was asked for by name, one by one."""

    def add_to(self, server: grpc.aio.Server) -> None:
        """Before the server starts."""
        add_IncidentServiceServicer_to_server(self, server)

    @property
    def acted(self) -> list[tuple[str, str, str]]:
        """What was done, by whom and through what, each once: a request id that comes again is no second answer."""
        once = {each.request_id: each for each in self.answers}
        return [(each.action, each.who, each.via) for each in once.values()]

    async def AcknowledgeIncident(
        self, request: pb.AcknowledgeIncidentRequest, context: Any
    ) -> pb.AcknowledgeIncidentResponse:
        await self._note("acknowledge", request, context)
        return pb.AcknowledgeIncidentResponse()

    async def EscalateIncident(self, request: pb.EscalateIncidentRequest, context: Any) -> pb.EscalateIncidentResponse:
        await self._note("escalate", request, context)
        return pb.EscalateIncidentResponse()

    async def ResolveIncident(self, request: pb.ResolveIncidentRequest, context: Any) -> pb.ResolveIncidentResponse:
        await self._note("resolve", request, context)
        return pb.ResolveIncidentResponse()

    async def AddNote(self, request: pb.AddNoteRequest, context: Any) -> pb.AddNoteResponse:
        await self._note("note", request, context)
        return pb.AddNoteResponse()

    async def BatchAcknowledgeIncidents(
        self, request: pb.BatchAcknowledgeIncidentsRequest, context: Any
    ) -> pb.BatchAcknowledgeIncidentsResponse:
        await self._serve(context)
        await _check(request, context)
        who = _subject(str(dict(context.invocation_metadata())["authorization"]))
        for name in request.names:
            self.answers.append(Answered("acknowledge", who, name, request.via, f"{request.request_id} {name}"))
        return pb.BatchAcknowledgeIncidentsResponse()

    async def GetIncident(self, request: pb.GetIncidentRequest, context: Any) -> pb.GetIncidentResponse:
        await self._serve(context)
        self.shown.append(request.name)
        return pb.GetIncidentResponse(incident=next((e for e in self.incidents if e.name == request.name), None))

    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: Any) -> pb.ListIncidentsResponse:
        await self._serve(context)
        assert _subject(str(dict(context.invocation_metadata())["authorization"])) == request.assignee
        found = [e for e in self.incidents if request.assignee in e.assignees and e.state in request.states]
        start = int(request.page_token or 0)
        end = start + request.page_size
        more = str(end) if end < len(found) else ""
        return pb.ListIncidentsResponse(incidents=found[start:end], next_page_token=more)

    async def _note(self, action: str, request: Any, context: Any) -> None:
        await self._serve(context)
        await _check(request, context)
        metadata = dict(context.invocation_metadata())
        who = _subject(str(metadata["authorization"]))
        text = getattr(request, "text", "")
        self.answers.append(Answered(action, who, request.name, request.via, request.request_id, text))
        if self.stops:
            context.set_trailing_metadata((as_metadata(CancelNotificationsRequest(cancellations=self.stops)),))

    async def _serve(self, context: Any) -> None:
        if not self.there:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if self.refuses is not None:
            status: Any = rpc_status.to_status(to_status(TocsinError(self.refuses, "refused")))
            await context.abort_with_status(status)


async def _check(request: Any, context: Any) -> None:
    """Refuse what the contract does not allow, as escalation does."""
    try:
        validate(request)
    except TocsinError as error:
        status: Any = rpc_status.to_status(to_status(error))
        await context.abort_with_status(status)


def _subject(authorization: str) -> str:
    body = authorization.removeprefix("Bearer ").split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["sub"])
