"""IncidentService: decode, call one use case, encode."""

from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any, Final, TypeVar
from uuid import UUID

import grpc
from google.protobuf.message import Message
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin.escalation.v1 import incident_service_pb2_grpc as pb_grpc
from tocsin.type.v1 import severity_pb2
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import FEW_ROWS, Position, listed, searched
from tocsin_kit.rpc.masks import require_etag
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import current_call

from tocsin_escalation.app.foresight import foresee
from tocsin_escalation.app.foresight.explain import Describing, explain_page
from tocsin_escalation.app.incidents import bulk, read
from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.app.incidents.command import Commands, IdempotentCall
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.app.incidents.merge import plan_merge, plan_unmerge
from tocsin_escalation.app.people import targets
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import (
    Acknowledged,
    Edited,
    Escalated,
    Noted,
    Reassigned,
    RespondersAdded,
    Restarted,
    Snoozed,
    Unacknowledged,
)
from tocsin_escalation.rpc import bulk_change, foresight_mapping, mapping
from tocsin_escalation.rpc.filters import filters_from
from tocsin_escalation.rpc.incident_results import results
from tocsin_escalation.rpc.incident_steps import answer_of, step_of
from tocsin_escalation.store.incidents.escalations import EscalationRow
from tocsin_escalation.store.incidents.timeline import Entry

Context = grpc.aio.ServicerContext[Any, Any]
R = TypeVar("R", bound=Message)


_DELIVERIES: Final = "notifications:read"
"""The scope without which an explanation leaves out notify's part: contact rules, attempts, receipts."""


class IncidentService(pb_grpc.IncidentServiceServicer):
    """Actions of responders on incidents."""

    def __init__(self, db: Database, commands: Commands, notify: Describing, pages: PageTokens) -> None:
        self._notify = notify
        self._db = db
        self._commands = commands
        self._pages = pages

    async def GetIncident(self, request: pb.GetIncidentRequest, context: Context) -> pb.GetIncidentResponse:
        """See the contract."""
        row = await read.incident(self._db, current_call().org_id, mapping.incident_id(request.name))
        return pb.GetIncidentResponse(incident=mapping.incident(row.run, row.update_time))

    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: Context) -> pb.ListIncidentsResponse:
        """See the contract."""
        filters = filters_from(request)
        org_id = current_call().org_id

        async def newest(cursor: Any, limit: int) -> tuple[Sequence[EscalationRow], Position | None]:
            found = await read.newest(self._db, org_id, filters, cursor, limit)
            return found.rows, found.end

        async def worst(cursor: Any, limit: int) -> Sequence[EscalationRow]:
            return await read.worst(self._db, org_id, filters, cursor, limit)

        if request.order == pb.INCIDENT_ORDER_SEVERITY:
            if State.RESOLVED.value in filters.states:
                raise invalid("order", "INCIDENT_ORDER_SEVERITY lists what is not resolved; leave that state out")
            found, token = await listed(self._pages, request, None, worst, _whole, _place_of_worst, portion=FEW_ROWS)
        else:
            found, token = await searched(self._pages, request, None, newest, _whole, _place, portion=FEW_ROWS)
        return pb.ListIncidentsResponse(incidents=found, next_page_token=token)

    async def CountIncidents(self, request: pb.CountIncidentsRequest, context: Context) -> pb.CountIncidentsResponse:
        """See the contract."""
        counted = await read.counts(
            self._db,
            current_call().org_id,
            request.policy.removeprefix("policies/"),
            request.team.removeprefix("teams/"),
        )
        return pb.CountIncidentsResponse(
            counts=[
                pb.IncidentCount(
                    state=mapping.STATES.get(State(each.state), incident_pb2.INCIDENT_STATE_UNSPECIFIED),
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
        """See the contract."""

        def respond(done: Advanced) -> pb.AcknowledgeIncidentResponse:
            return pb.AcknowledgeIncidentResponse(incident=_incident(done), already_acknowledged=done.already)

        step = answer_of(request, Acknowledged(_actor(), request.via))
        return await self._one(request, pb.AcknowledgeIncidentResponse, step, respond)

    async def UnacknowledgeIncident(
        self, request: pb.UnacknowledgeIncidentRequest, context: Context
    ) -> pb.UnacknowledgeIncidentResponse:
        """See the contract."""
        return await self._one(request, pb.UnacknowledgeIncidentResponse, step_of(request, Unacknowledged(_actor())))

    async def SnoozeIncident(self, request: pb.SnoozeIncidentRequest, context: Context) -> pb.SnoozeIncidentResponse:
        """See the contract."""
        step = answer_of(request, Snoozed(_actor(), request.duration.ToTimedelta(), request.via))
        return await self._one(request, pb.SnoozeIncidentResponse, step)

    async def EscalateIncident(
        self, request: pb.EscalateIncidentRequest, context: Context
    ) -> pb.EscalateIncidentResponse:
        """See the contract."""
        step = answer_of(request, Escalated(_actor(), request.level, request.via))
        return await self._one(request, pb.EscalateIncidentResponse, step)

    async def ReassignIncident(
        self, request: pb.ReassignIncidentRequest, context: Context
    ) -> pb.ReassignIncidentResponse:
        """See the contract."""
        org_id = current_call().org_id
        if request.WhichOneof("to") == "policy":
            policy = await targets.policy(self._db, org_id, request.policy.removeprefix("policies/"), "policy")
            event = Reassigned(_actor(), policy=policy)
        else:
            named = tuple(map(mapping.target_from, request.targets.targets))
            await targets.must_exist(self._db, org_id, [("targets.targets", target) for target in named])
            event = Reassigned(_actor(), targets=named)
        return await self._one(request, pb.ReassignIncidentResponse, step_of(request, event))

    async def AddResponders(self, request: pb.AddRespondersRequest, context: Context) -> pb.AddRespondersResponse:
        """See the contract."""
        named = tuple(map(mapping.target_from, request.targets))
        await targets.must_exist(self._db, current_call().org_id, [("targets", target) for target in named])
        return await self._one(request, pb.AddRespondersResponse, step_of(request, RespondersAdded(_actor(), named)))

    async def RestartIncident(self, request: pb.RestartIncidentRequest, context: Context) -> pb.RestartIncidentResponse:
        """See the contract."""
        policy = await targets.policy_of(self._db, current_call().org_id, mapping.incident_id(request.name))
        return await self._one(request, pb.RestartIncidentResponse, step_of(request, Restarted(_actor(), policy)))

    async def UpdateIncident(self, request: pb.UpdateIncidentRequest, context: Context) -> pb.UpdateIncidentResponse:
        """See the contract."""
        event = Edited(_actor(), request.title or None, request.severity or None)
        return await self._one(request, pb.UpdateIncidentResponse, step_of(request, event))

    async def AddNote(self, request: pb.AddNoteRequest, context: Context) -> pb.AddNoteResponse:
        """See the contract."""

        def respond(done: Advanced) -> pb.AddNoteResponse:
            _note_before(done)
            return pb.AddNoteResponse(entry=mapping.timeline_entry(done.entries[-1]))

        step = Step(mapping.incident_id(request.name), Noted(_actor(), request.text, via=request.via))
        return await self._commands.noted(_call(request, pb.AddNoteResponse), step, respond)

    async def ResolveIncident(self, request: pb.ResolveIncidentRequest, context: Context) -> pb.ResolveIncidentResponse:
        """See the contract."""
        org_id = current_call().org_id
        id = mapping.incident_id(request.name)
        row = await read.incident(self._db, org_id, id)
        resolved_before = row.run.state is State.RESOLVED
        if not resolved_before:
            # For a resolved incident the etag no longer matters: otherwise the repeat of a request would not get its first
            # answer.
            require_etag(request.etag, row.run.version)

        def respond(done: Advanced) -> pb.ResolveIncidentResponse:
            # Not `done.already`: ingest's own event about this resolve may have arrived first.
            return pb.ResolveIncidentResponse(incident=_incident(done), already_resolved=resolved_before)

        if request.via and not request.etag:
            step, resolved_before = await self._commands.answering(org_id, _actor(), row.run, request.via)
        else:
            [step] = await self._commands.resolving(org_id, _actor(), [id], request.via)
        return await self._one(request, pb.ResolveIncidentResponse, step, respond)

    async def MergeIncident(self, request: pb.MergeIncidentRequest, context: Context) -> pb.MergeIncidentResponse:
        """See the contract."""
        source, target = mapping.incident_id(request.name), mapping.incident_id(request.into, "into")

        def respond(done: Sequence[Advanced]) -> pb.MergeIncidentResponse:
            _note_before(done[0])
            return pb.MergeIncidentResponse(
                incident=_incident(done[0]), already_merged=done[0].already, target=_target(done)
            )

        return await self._commands.together(
            _call(request, pb.MergeIncidentResponse),
            [source, target],
            lambda runs: plan_merge(runs, source, target, _actor(), request.etag),
            respond,
        )

    async def UnmergeIncident(self, request: pb.UnmergeIncidentRequest, context: Context) -> pb.UnmergeIncidentResponse:
        """See the contract."""
        source = mapping.incident_id(request.name)

        def respond(done: Sequence[Advanced]) -> pb.UnmergeIncidentResponse:
            _note_before(done[0])
            return pb.UnmergeIncidentResponse(incident=_incident(done[0]), target=_target(done))

        return await self._commands.together(
            _call(request, pb.UnmergeIncidentResponse),
            [source],
            lambda runs: plan_unmerge(runs, source, _actor(), request.etag),
            respond,
        )

    async def BatchAcknowledgeIncidents(
        self, request: pb.BatchAcknowledgeIncidentsRequest, context: Context
    ) -> pb.BatchAcknowledgeIncidentsResponse:
        """See the contract."""
        ids = _ids(request.names)
        return await self._commands.many(
            _call(request, pb.BatchAcknowledgeIncidentsResponse),
            [Step(id, Acknowledged(_actor(), request.via), answers=bool(request.via)) for id in ids],
            lambda answers: pb.BatchAcknowledgeIncidentsResponse(results=results(ids, answers)),
        )

    async def BatchResolveIncidents(
        self, request: pb.BatchResolveIncidentsRequest, context: Context
    ) -> pb.BatchResolveIncidentsResponse:
        """See the contract."""
        org_id = current_call().org_id
        ids = _ids(request.names)
        known = await read.known(self._db, org_id, ids)
        steps = await self._commands.resolving(org_id, _actor(), [id for id in ids if id in known])

        def respond(answers: Sequence[Advanced | TocsinError]) -> pb.BatchResolveIncidentsResponse:
            taken = {step.incident_id: answer for step, answer in zip(steps, answers, strict=True)}
            return pb.BatchResolveIncidentsResponse(results=results(ids, [taken.get(id) or _unknown(id) for id in ids]))

        return await self._commands.many(_call(request, pb.BatchResolveIncidentsResponse), steps, respond)

    async def _one(
        self, request: Message, response: type[R], step: Step, respond: Callable[[Advanced], R] | None = None
    ) -> R:
        """One command on one incident. Most answers hold the incident and nothing else."""

        def noted(done: Advanced) -> R:
            _note_before(done)
            return respond(done) if respond is not None else response(incident=_incident(done))

        return await self._commands.one(
            _call(request, response),
            step,
            noted,
        )

    async def BulkChangeIncidents(
        self, request: pb.BulkChangeIncidentsRequest, context: Context
    ) -> pb.BulkChangeIncidentsResponse:
        """See the contract."""
        org_id, limit = current_call().org_id, request.max_incidents or bulk.MOST
        call = _call(request, pb.BulkChangeIncidentsResponse)
        filters, behind = filters_from(request.filter, "filter."), self._pages.decode(request.filter)
        # Incidents that a repeat of the request would find must not be resolved: it gets its first answer.
        before = None if request.dry_run else await self._commands.answered(call)
        if before is not None:
            return before
        change = await bulk_change.change_from(self._db, org_id, _actor(), request)
        await bulk.check(self._db, org_id, change)
        found = await bulk.fitting(self._db, org_id, filters, change, behind, limit)
        token = self._pages.encode(request.filter, found.end) if found.end else ""
        if request.dry_run:
            count = await bulk.count(self._db, org_id, filters, change, behind)
            return bulk_change.foreseen(found, count, token)
        ids = [row.run.incident_id for row in found.rows]

        def respond(answers: Sequence[Advanced | TocsinError]) -> pb.BulkChangeIncidentsResponse:
            return bulk_change.changed(change.action, ids, answers, token)

        plan = bulk.plan(change)
        if plan is not None:
            also = [change.into] if change.into else []
            return await self._commands.each(call, ids, also, plan, respond)
        steps = await bulk.steps(self._commands, org_id, change, ids)
        return await self._commands.many(call, steps, respond)

    async def ExplainPage(self, request: pb.ExplainPageRequest, context: Context) -> pb.ExplainPageResponse:
        """See the contract."""
        incident, user = mapping.incident_id(request.incident, "incident"), request.user.removeprefix("users/")
        deliveries = _DELIVERIES in current_call().principal.scopes
        found = await explain_page(self._db, self._notify, current_call().org_id, incident, user, deliveries=deliveries)
        return foresight_mapping.explained_to(found)

    async def SimulateIncident(
        self, request: pb.SimulateIncidentRequest, context: Context
    ) -> pb.SimulateIncidentResponse:
        """See the contract."""
        org_id = current_call().org_id
        if request.WhichOneof("origin") == "incident":
            if request.HasField("start_time") or request.severity:
                field = "start_time" if request.HasField("start_time") else "severity"
                raise invalid(field, "may be set for a new incident only; this one goes on from where it is")
            incident = mapping.incident_id(request.incident, "incident")
            return foresight_mapping.foreseen_to(await foresee.of_incident(self._db, self._notify, org_id, incident))
        start = request.start_time.ToDatetime(UTC) if request.HasField("start_time") else None
        severity = request.severity or severity_pb2.SEVERITY_CRITICAL
        policy = request.policy.removeprefix("policies/")
        found = await foresee.on_policy(self._db, self._notify, org_id, policy, start, severity)
        return foresight_mapping.foreseen_to(found)

    async def ListTimeline(self, request: pb.ListTimelineRequest, context: Context) -> pb.ListTimelineResponse:
        """See the contract."""
        id = mapping.incident_id(request.incident, "incident")

        async def entries(cursor: Any, limit: int) -> Sequence[Entry]:
            return await read.timeline_of(self._db, current_call().org_id, id, cursor, limit)

        found, token = await listed(
            self._pages, request, None, entries, mapping.timeline_entry, lambda entry: (entry.id,)
        )
        return pb.ListTimelineResponse(entries=found, next_page_token=token)


def _whole(row: EscalationRow) -> incident_pb2.Incident:
    return mapping.incident(row.run, row.update_time)


def _place(row: EscalationRow) -> Position:
    return row.run.facts.create_time, row.run.incident_id


def _place_of_worst(row: EscalationRow) -> Position:
    return row.run.facts.severity, *_place(row)


def _actor() -> str:
    return current_call().principal.subject


def _call(request: Message, response_type: type[R]) -> IdempotentCall[R]:
    """The answer to a repeated `request_id` is kept under the name of the RPC."""
    return IdempotentCall(current_call().org_id, type(request).__name__.removesuffix("Request"), request, response_type)


def _ids(names: Sequence[str]) -> list[UUID]:
    return [mapping.incident_id(name, f"names[{position}]") for position, name in enumerate(names)]


def _incident(done: Advanced) -> incident_pb2.Incident:
    return mapping.incident(done.run, done.update_time)


def _target(done: Sequence[Advanced]) -> incident_pb2.Incident | None:
    """The other incident of a merge. The audit log finds the entry by it, too."""
    return _incident(done[1]) if len(done) > 1 else None


def _note_before(done: Advanced) -> None:
    """For the audit log."""
    if done.before is not None:
        note_before(mapping.incident(done.before))


def _unknown(id: UUID) -> TocsinError:
    return not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id}")
