"""EscalationInternalService: calls of ingest and notify."""

from datetime import UTC, datetime
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import internal_service_pb2 as pb
from tocsin.escalation.v1 import internal_service_pb2_grpc as pb_grpc
from tocsin.notify.v1 import notification_pb2
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import invalid
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.listing import made_in_slices
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.app.figures.summaries import Summaries
from tocsin_escalation.app.foresight import foresee
from tocsin_escalation.app.incidents.apply_events import Arrival, Opening, Result, apply_events
from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, OutcomeResult, apply_outcomes
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.reconcile_pages import PageReconciler
from tocsin_escalation.app.people import receivers
from tocsin_escalation.app.people.reach import Reaching
from tocsin_escalation.domain.escalation import Facts
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Event, Noted, OutcomeKind, PageOutcome, Resolved
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.rpc import digest_mapping, foresight_mapping
from tocsin_escalation.store.incidents import feeds, standings
from tocsin_escalation.store.incidents.standings import Standing, Stop
from tocsin_escalation.store.people import policies

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_PAGE: Final = 500
_MOST_RECEIVERS: Final = 500
_TOLD: Final = 500
RESULTS: Final = {
    Result.APPLIED: pb.INCIDENT_EVENT_RESULT_APPLIED,
    Result.DUPLICATE: pb.INCIDENT_EVENT_RESULT_DUPLICATE,
    Result.OUT_OF_ORDER: pb.INCIDENT_EVENT_RESULT_OUT_OF_ORDER,
    Result.UNKNOWN_INCIDENT: pb.INCIDENT_EVENT_RESULT_UNKNOWN_INCIDENT,
    Result.BUSY: pb.INCIDENT_EVENT_RESULT_BUSY,
}
OUTCOME_RESULTS: Final = {
    OutcomeResult.APPLIED: pb.PAGE_OUTCOME_RESULT_APPLIED,
    OutcomeResult.DUPLICATE: pb.PAGE_OUTCOME_RESULT_DUPLICATE,
    OutcomeResult.INCIDENT_UNKNOWN: pb.PAGE_OUTCOME_RESULT_INCIDENT_UNKNOWN,
}
OUTCOME_KINDS: Final = {
    pb.PAGE_OUTCOME_KIND_UNREACHABLE: OutcomeKind.UNREACHABLE,
    pb.PAGE_OUTCOME_KIND_FAILED: OutcomeKind.FAILED,
    pb.PAGE_OUTCOME_KIND_DELAYED: OutcomeKind.DELAYED,
    pb.PAGE_OUTCOME_KIND_SENT: OutcomeKind.SENT,
    pb.PAGE_OUTCOME_KIND_DELIVERED: OutcomeKind.DELIVERED,
}
_IN_WORDS: Final = {
    notification_pb2.CHANNEL_EMAIL: "e-mail",
    notification_pb2.CHANNEL_SMS: "SMS",
    notification_pb2.CHANNEL_VOICE: "call",
    notification_pb2.CHANNEL_PUSHOVER: "Pushover",
    notification_pb2.CHANNEL_TELEGRAM: "Telegram message",
    notification_pb2.CHANNEL_SLACK: "Slack message",
    notification_pb2.CHANNEL_MATTERMOST: "Mattermost message",
    notification_pb2.CHANNEL_DISCORD: "Discord message",
    notification_pb2.CHANNEL_TEAMS: "Teams message",
    notification_pb2.CHANNEL_APPRISE: "Apprise",
}
CHANNELS: Final = {
    number: _IN_WORDS.get(number, name.removeprefix("CHANNEL_").lower().replace("_", " "))
    for name, number in notification_pb2.Channel.items()
    if number
}
"""The words of the timeline."""


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
        arrivals = await made_in_slices(enumerate(request.events), lambda each: _arrival(each[1], each[0]))
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
            standings=[_standing(known.get(claim), stops.get(claim)) for claim in claims]
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
        told = [_told(outcome, position) for position, outcome in enumerate(request.outcomes)]
        results = await apply_outcomes(self._db, self._effects, told)
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
                for each in report.found[:_TOLD]
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
        event = _event(request.event)
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
        case "noted":
            return Noted(message.noted.actor, message.noted.text)
        case _:
            return Resolved(message.resolved.actor, message.resolved.because)


def _told(message: pb.PageOutcome, position: int) -> OutcomeArrival:
    field = f"outcomes[{position}]"
    outcome = PageOutcome(
        page=parse_uuid_name(message.page, "pages", field=f"{field}.page"),
        user=message.user.removeprefix("users/"),
        kind=OUTCOME_KINDS[message.kind],
        level=message.level,
        channel=CHANNELS.get(message.channel, ""),
        attempts=message.attempts,
        # PostgreSQL stores no NUL; the text comes from a provider.
        reason=message.reason.replace("\0", " "),
        notification=message.notification.replace("\0", " "),
        undelivered=message.undelivered,
    )
    return OutcomeArrival(
        message.org_id, parse_uuid_name(message.incident, "incidents", field=f"{field}.incident"), outcome
    )


def _standing(found: Standing | None, stop: Stop | None) -> pb.IncidentStanding:
    if found is None:
        return pb.IncidentStanding()
    return pb.IncidentStanding(
        known=True,
        resolved=found.resolved,
        sequence=found.sequence,
        resolve_time=timestamp(found.resolve_time),
        stop=None
        if stop is None
        else pb.IncidentStop(generation=stop.generation, reason=stop.reason, final=stop.final),
    )
