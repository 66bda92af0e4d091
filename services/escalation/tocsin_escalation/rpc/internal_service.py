"""EscalationInternalService: calls of ingest and notify."""

from datetime import UTC, datetime
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import internal_service_pb2 as pb
from tocsin.escalation.v1 import internal_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import invalid
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.listing import made_in_slices
from tocsin_kit.rpc.server import current_call

from tocsin_escalation.app.figures.summaries import Summaries
from tocsin_escalation.app.foresight import foresee
from tocsin_escalation.app.incidents.apply_events import Opening, apply_events
from tocsin_escalation.app.incidents.apply_outcomes import apply_outcomes
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.reconcile_pages import PageReconciler
from tocsin_escalation.app.people import receivers
from tocsin_escalation.app.people.reach import Reaching
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.rpc import digest_mapping, foresight_mapping
from tocsin_escalation.rpc.internal_event_mapping import (
    OUTCOME_RESULTS,
    RESULTS,
    arrival_of,
    event_of,
    outcome_arrival_of,
    standing_to,
)
from tocsin_escalation.store.incidents import feeds, standings
from tocsin_escalation.store.people import policies

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_PAGE: Final = 500
_MOST_RECEIVERS: Final = 500
_MOST_FORGOTTEN_SHOWN: Final = 500


class EscalationInternalService(pb_grpc.EscalationInternalServiceServicer):
    """Calls of Tocsin's other services."""

    def __init__(
        self, db: Database, effects: Effects, summaries: Summaries, notify: Reaching, page_reconciler: PageReconciler
    ) -> None:
        self._db = db
        self._notify = notify
        self._effects = effects
        self._summaries = summaries
        self._page_reconciler = page_reconciler

    async def ApplyIncidentEvents(
        self, request: pb.ApplyIncidentEventsRequest, context: Context
    ) -> pb.ApplyIncidentEventsResponse:
        """See the contract."""
        current_call().require_internal()
        arrivals = await made_in_slices(enumerate(request.events), lambda each: arrival_of(each[1], each[0]))
        results = await apply_events(self._db, self._effects, arrivals)
        return pb.ApplyIncidentEventsResponse(results=[RESULTS[result] for result in results])

    async def OpenEventFeeds(self, request: pb.OpenEventFeedsRequest, context: Context) -> pb.OpenEventFeedsResponse:
        """See the contract."""
        current_call().require_internal()
        async with self._db.system() as tx:
            await feeds.open_feeds(tx, request.org_ids)
        return pb.OpenEventFeedsResponse()

    async def CompareIncidents(
        self, request: pb.CompareIncidentsRequest, context: Context
    ) -> pb.CompareIncidentsResponse:
        """See the contract."""
        current_call().require_internal()
        claims = [
            (claim.org_id, parse_uuid_name(claim.incident, "incidents", field=f"incidents[{position}].incident"))
            for position, claim in enumerate(request.incidents)
        ]
        async with self._db.system() as tx:
            known = await standings.of(tx, claims)
            stops = await standings.stops(tx, claims) if request.stops else {}
        return pb.CompareIncidentsResponse(
            standings=[standing_to(known.get(claim), stops.get(claim)) for claim in claims]
        )

    async def ListOpenIncidents(
        self, request: pb.ListOpenIncidentsRequest, context: Context
    ) -> pb.ListOpenIncidentsResponse:
        """See the contract."""
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

    async def ApplyPageOutcomes(
        self, request: pb.ApplyPageOutcomesRequest, context: Context
    ) -> pb.ApplyPageOutcomesResponse:
        """See the contract."""
        current_call().require_internal()
        arrivals = [outcome_arrival_of(outcome, position) for position, outcome in enumerate(request.outcomes)]
        results = await apply_outcomes(self._db, self._effects, arrivals)
        return pb.ApplyPageOutcomesResponse(results=[OUTCOME_RESULTS[result] for result in results])

    async def ReconcilePages(self, request: pb.ReconcilePagesRequest, context: Context) -> pb.ReconcilePagesResponse:
        """See the contract."""
        current_call().require_internal()
        report = await self._page_reconciler.all_now(mend=not request.dry_run)
        return pb.ReconcilePagesResponse(
            compared=report.compared,
            forgotten=len(report.found),
            pages=[
                pb.ForgottenPage(
                    org_id=each.org_id,
                    incident=f"incidents/{each.incident_id}",
                    page=f"pages/{each.page}",
                    handed_over=each.page in report.handed,
                )
                for each in report.found[:_MOST_FORGOTTEN_SHOWN]
            ],
            paged_again=len(report.stopped),
        )

    async def SummarizeForDigests(
        self, request: pb.SummarizeForDigestsRequest, context: Context
    ) -> pb.SummarizeForDigestsResponse:
        """See the contract."""
        org_id = current_call().acting_for(request.org_id)
        users = [name.removeprefix("users/") for name in request.users]
        found, people = await self._summaries.for_digests(org_id, users, *digest_mapping.span_of(request))
        return pb.SummarizeForDigestsResponse(
            figures=digest_mapping.figures_to(found), people=map(digest_mapping.person_to, people)
        )

    async def SimulateEvent(self, request: pb.SimulateEventRequest, context: Context) -> pb.SimulateEventResponse:
        """See the contract."""
        org_id = current_call().acting_for(request.event.org_id)
        event = event_of(request.event)
        if isinstance(event, Opening):
            time = time_of(request.time, "time") if request.HasField("time") else None
            found = await foresee.of_opening(self._db, self._notify, org_id, event.policy, event.facts, time)
        else:
            if request.HasField("time"):
                raise invalid(
                    "time", "may be set for `opened` only; other events happen to an incident as it stands now"
                )
            incident = parse_uuid_name(request.event.incident, "incidents", field="event.incident")
            found = await foresee.of_incident(self._db, self._notify, org_id, incident, event)
        return pb.SimulateEventResponse(plan=foresight_mapping.foreseen_to(found))

    async def GetReceivers(self, request: pb.GetReceiversRequest, context: Context) -> pb.GetReceiversResponse:
        """See the contract."""
        org_id = current_call().acting_for(request.org_id)
        targets = [Target(*_kind_and_id(name)) for name in request.targets]
        time = time_of(request.time, "time")
        found = await receivers.resolve(self._db, org_id, targets, time)
        return pb.GetReceiversResponse(
            receivers=[
                pb.Receivers(
                    exists=each.exists,
                    users=[f"users/{user}" for user in each.users[:_MOST_RECEIVERS]],
                    count=len(each.users),
                )
                for each in found
            ]
        )

    async def CheckPolicies(self, request: pb.CheckPoliciesRequest, context: Context) -> pb.CheckPoliciesResponse:
        """See the contract."""
        org_id = current_call().acting_for(request.org_id)
        ids = [name.removeprefix("policies/") for name in request.policies]
        async with self._db.transaction(org_id) as tx:
            missing = await policies.missing(tx, org_id, ids)
        return pb.CheckPoliciesResponse(missing=[f"policies/{id}" for id in missing])


def time_of(time: Timestamp, field: str) -> datetime:
    """Raises INVALID_FIELD for one that is no time."""
    try:
        return time.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(field, "must be a time of the years 1 to 9999") from error


def _kind_and_id(name: str) -> tuple[TargetKind, str]:
    collection, _, id = name.partition("/")
    return TargetKind(collection.removesuffix("s")), id
