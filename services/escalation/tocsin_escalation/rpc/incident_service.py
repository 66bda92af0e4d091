"""IncidentService: decode, call one use case, encode."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

import grpc
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1 import incident_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError, invalid, not_found, to_status
from tocsin_kit.rpc.masks import require_etag
from tocsin_kit.rpc.paging import CursorValue, PageTokens, page_size
from tocsin_kit.rpc.server import current_call

from tocsin_escalation.app import read, targets
from tocsin_escalation.app.advance import Advanced, Step
from tocsin_escalation.app.command import Commands
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import (
    Acknowledged,
    Edited,
    Escalated,
    Event,
    Noted,
    Reassigned,
    RespondersAdded,
    Restarted,
    Snoozed,
    Unacknowledged,
)
from tocsin_escalation.rpc import mapping
from tocsin_escalation.store.escalations import EscalationRow
from tocsin_escalation.store.finding import MOST_WORDS, Filters, words_of

Context = grpc.aio.ServicerContext[Any, Any]


class IncidentService(pb_grpc.IncidentServiceServicer):
    """What responders do with incidents."""

    def __init__(self, db: Database, commands: Commands, pages: PageTokens) -> None:
        self._db = db
        self._commands = commands
        self._pages = pages

    async def GetIncident(self, request: pb.GetIncidentRequest, context: Context) -> pb.GetIncidentResponse:
        row = await read.incident(self._db, current_call().org_id, mapping.incident_id(request.name))
        return pb.GetIncidentResponse(incident=mapping.incident(row.run, row.update_time))

    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: Context) -> pb.ListIncidentsResponse:
        words = words_of(request.query)
        if len(words) > MOST_WORDS:
            raise invalid("query", f"must have at most {MOST_WORDS} words, not {len(words)}")
        filters = Filters(
            states=tuple(mapping.STATE_NAMES[state] for state in request.states),
            policy=request.policy.removeprefix("policies/"),
            team=request.team.removeprefix("teams/"),
            assignee=request.assignee.removeprefix("users/"),
            start_time=request.start_time.ToDatetime(UTC) if request.HasField("start_time") else None,
            end_time=request.end_time.ToDatetime(UTC) if request.HasField("end_time") else None,
            reached=tuple(mapping.REACHED_NAMES[reached] for reached in request.reached),
            severities=tuple(request.severities),
            labels=dict(request.labels),
            words=words,
        )
        cursor = self._pages.decode(request)
        size = page_size(request.page_size)
        if request.order == pb.INCIDENT_ORDER_SEVERITY:
            if State.RESOLVED.value in filters.states:
                raise invalid("order", "INCIDENT_ORDER_SEVERITY lists what is not resolved; leave that state out")
            rows = await read.worst(self._db, current_call().org_id, filters, cursor, size + 1)
            last = rows[size - 1].run if len(rows) > size else None
            end = (last.facts.severity, last.facts.create_time, last.incident_id) if last else None
            return self._listed(request, rows[:size], end)
        found = await read.newest(self._db, current_call().org_id, filters, cursor, size)
        return self._listed(request, found.rows, found.end)

    def _listed(
        self, request: pb.ListIncidentsRequest, rows: Sequence[EscalationRow], end: Sequence[CursorValue] | None
    ) -> pb.ListIncidentsResponse:
        return pb.ListIncidentsResponse(
            incidents=[mapping.incident(row.run, row.update_time) for row in rows],
            next_page_token=self._pages.encode(request, end) if end else "",
        )

    async def CountIncidents(self, request: pb.CountIncidentsRequest, context: Context) -> pb.CountIncidentsResponse:
        counted = await read.counts(
            self._db,
            current_call().org_id,
            request.policy.removeprefix("policies/"),
            request.team.removeprefix("teams/"),
        )
        return pb.CountIncidentsResponse(
            counts=[
                pb.IncidentCount(
                    state=mapping.STATES[State(each.state)],
                    severity=each.severity,  # type: ignore[arg-type]  # the number is the enum's own
                    count=each.count,
                )
                for each in counted
            ],
            total=sum(each.count for each in counted),
        )

    async def AcknowledgeIncident(
        self, request: pb.AcknowledgeIncidentRequest, context: Context
    ) -> pb.AcknowledgeIncidentResponse:
        return await self._commands.one(
            current_call().org_id,
            "AcknowledgeIncident",
            request,
            pb.AcknowledgeIncidentResponse,
            _step(request.name, request.etag, Acknowledged(current_call().principal.subject, request.via)),
            lambda done: pb.AcknowledgeIncidentResponse(incident=_incident(done), already_acknowledged=done.already),
        )

    async def UnacknowledgeIncident(
        self, request: pb.UnacknowledgeIncidentRequest, context: Context
    ) -> pb.UnacknowledgeIncidentResponse:
        return await self._commands.one(
            current_call().org_id,
            "UnacknowledgeIncident",
            request,
            pb.UnacknowledgeIncidentResponse,
            _step(request.name, request.etag, Unacknowledged(current_call().principal.subject)),
            lambda done: pb.UnacknowledgeIncidentResponse(incident=_incident(done)),
        )

    async def SnoozeIncident(self, request: pb.SnoozeIncidentRequest, context: Context) -> pb.SnoozeIncidentResponse:
        event = Snoozed(current_call().principal.subject, request.duration.ToTimedelta())
        return await self._commands.one(
            current_call().org_id,
            "SnoozeIncident",
            request,
            pb.SnoozeIncidentResponse,
            _step(request.name, request.etag, event),
            lambda done: pb.SnoozeIncidentResponse(incident=_incident(done)),
        )

    async def EscalateIncident(
        self, request: pb.EscalateIncidentRequest, context: Context
    ) -> pb.EscalateIncidentResponse:
        return await self._commands.one(
            current_call().org_id,
            "EscalateIncident",
            request,
            pb.EscalateIncidentResponse,
            _step(request.name, request.etag, Escalated(current_call().principal.subject, request.level, request.via)),
            lambda done: pb.EscalateIncidentResponse(incident=_incident(done)),
        )

    async def ReassignIncident(
        self, request: pb.ReassignIncidentRequest, context: Context
    ) -> pb.ReassignIncidentResponse:
        call = current_call()
        if request.WhichOneof("to") == "policy":
            policy = await targets.policy(self._db, call.org_id, request.policy.removeprefix("policies/"), "policy")
            event = Reassigned(call.principal.subject, policy=policy)
        else:
            named = tuple(map(mapping.target_from, request.targets.targets))
            await targets.must_exist(self._db, call.org_id, [("targets.targets", target) for target in named])
            event = Reassigned(call.principal.subject, targets=named)
        return await self._commands.one(
            call.org_id,
            "ReassignIncident",
            request,
            pb.ReassignIncidentResponse,
            _step(request.name, request.etag, event),
            lambda done: pb.ReassignIncidentResponse(incident=_incident(done)),
        )

    async def AddResponders(self, request: pb.AddRespondersRequest, context: Context) -> pb.AddRespondersResponse:
        call = current_call()
        named = tuple(map(mapping.target_from, request.targets))
        await targets.must_exist(self._db, call.org_id, [("targets", target) for target in named])
        return await self._commands.one(
            call.org_id,
            "AddResponders",
            request,
            pb.AddRespondersResponse,
            _step(request.name, request.etag, RespondersAdded(call.principal.subject, named)),
            lambda done: pb.AddRespondersResponse(incident=_incident(done)),
        )

    async def RestartIncident(self, request: pb.RestartIncidentRequest, context: Context) -> pb.RestartIncidentResponse:
        call = current_call()
        policy = await targets.policy_of(self._db, call.org_id, mapping.incident_id(request.name))
        return await self._commands.one(
            call.org_id,
            "RestartIncident",
            request,
            pb.RestartIncidentResponse,
            _step(request.name, request.etag, Restarted(call.principal.subject, policy)),
            lambda done: pb.RestartIncidentResponse(incident=_incident(done)),
        )

    async def UpdateIncident(self, request: pb.UpdateIncidentRequest, context: Context) -> pb.UpdateIncidentResponse:
        call = current_call()
        event = Edited(call.principal.subject, request.title or None, request.severity or None)
        return await self._commands.one(
            call.org_id,
            "UpdateIncident",
            request,
            pb.UpdateIncidentResponse,
            _step(request.name, request.etag, event),
            lambda done: pb.UpdateIncidentResponse(incident=_incident(done)),
        )

    async def AddNote(self, request: pb.AddNoteRequest, context: Context) -> pb.AddNoteResponse:
        return await self._commands.one(
            current_call().org_id,
            "AddNote",
            request,
            pb.AddNoteResponse,
            _step(request.name, "", Noted(current_call().principal.subject, request.text)),
            lambda done: pb.AddNoteResponse(entry=mapping.timeline_entry(done.entries[-1])),
        )

    async def ResolveIncident(self, request: pb.ResolveIncidentRequest, context: Context) -> pb.ResolveIncidentResponse:
        call = current_call()
        id_ = mapping.incident_id(request.name)
        row = await read.incident(self._db, call.org_id, id_)
        resolved_before = row.run.state is State.RESOLVED
        if not resolved_before:
            # Of a resolved one the etag no longer matters, or the repeat of a request would not get its first answer.
            require_etag(request.etag, row.run.version)
        [step] = await self._commands.resolving(call.org_id, call.principal.subject, [id_], request.via)
        return await self._commands.one(
            call.org_id,
            "ResolveIncident",
            request,
            pb.ResolveIncidentResponse,
            step,
            # Not `done.already`: ingest's own event about this very resolve may have come first.
            lambda done: pb.ResolveIncidentResponse(incident=_incident(done), already_resolved=resolved_before),
        )

    async def BatchAcknowledgeIncidents(
        self, request: pb.BatchAcknowledgeIncidentsRequest, context: Context
    ) -> pb.BatchAcknowledgeIncidentsResponse:
        actor = current_call().principal.subject
        ids = _ids(request.names)
        return await self._commands.many(
            current_call().org_id,
            "BatchAcknowledgeIncidents",
            request,
            pb.BatchAcknowledgeIncidentsResponse,
            [Step(id_, Acknowledged(actor)) for id_ in ids],
            lambda answers: pb.BatchAcknowledgeIncidentsResponse(results=_results(ids, answers)),
        )

    async def BatchResolveIncidents(
        self, request: pb.BatchResolveIncidentsRequest, context: Context
    ) -> pb.BatchResolveIncidentsResponse:
        call = current_call()
        ids = _ids(request.names)
        known = await read.known(self._db, call.org_id, ids)
        steps = await self._commands.resolving(
            call.org_id, call.principal.subject, [id_ for id_ in ids if id_ in known]
        )

        def respond(answers: Sequence[Advanced | TocsinError]) -> pb.BatchResolveIncidentsResponse:
            taken = {step.incident_id: answer for step, answer in zip(steps, answers, strict=True)}
            return pb.BatchResolveIncidentsResponse(
                results=_results(ids, [taken.get(id_) or _unknown(id_) for id_ in ids])
            )

        return await self._commands.many(
            call.org_id, "BatchResolveIncidents", request, pb.BatchResolveIncidentsResponse, steps, respond
        )

    async def ListTimeline(self, request: pb.ListTimelineRequest, context: Context) -> pb.ListTimelineResponse:
        cursor = self._pages.decode(request)
        size = page_size(request.page_size)
        id_ = mapping.incident_id(request.incident, "incident")
        entries = await read.timeline_of(self._db, current_call().org_id, id_, cursor, size + 1)
        shown = entries[:size]
        token = self._pages.encode(request, (shown[-1].id,)) if len(entries) > size else ""
        return pb.ListTimelineResponse(entries=list(map(mapping.timeline_entry, shown)), next_page_token=token)


def _step(name: str, etag: str, event: Event) -> Step:
    return Step(mapping.incident_id(name), event, etag)


def _ids(names: Sequence[str]) -> list[UUID]:
    return [mapping.incident_id(name, f"names[{position}]") for position, name in enumerate(names)]


def _incident(done: Advanced) -> incident_pb2.Incident:
    return mapping.incident(done.run, done.update_time)


def _unknown(id_: UUID) -> TocsinError:
    return not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id_}")


def _results(ids: Sequence[UUID], answers: Sequence[Advanced | TocsinError]) -> list[pb.IncidentResult]:
    return [
        pb.IncidentResult(name=f"incidents/{id_}", incident=_incident(answer))
        if isinstance(answer, Advanced)
        else pb.IncidentResult(name=f"incidents/{id_}", error=to_status(answer))
        for id_, answer in zip(ids, answers, strict=True)
    ]
