"""What ingest and notify say of incidents and pages, decoded; and what is answered."""

from datetime import UTC
from typing import Final

from tocsin.escalation.v1 import internal_service_pb2 as pb
from tocsin.notify.v1 import notification_pb2
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.app.incidents.apply_events import Arrival, Opening, Result
from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, OutcomeResult
from tocsin_escalation.domain.escalation import Facts
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Event, Noted, OutcomeKind, PageOutcome, Resolved
from tocsin_escalation.store.incidents.standings import Standing, Stop

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


def arrival_of(message: pb.IncidentEvent, position: int) -> Arrival:
    """One of `events`, in its place. Raises INVALID_FIELD."""
    incident_id = parse_uuid_name(message.incident, "incidents", field=f"events[{position}].incident")
    return Arrival(message.org_id, incident_id, message.sequence, event_of(message))


def event_of(message: pb.IncidentEvent) -> Opening | Event:
    """What happened."""
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


def outcome_arrival_of(message: pb.PageOutcome, position: int) -> OutcomeArrival:
    """One of `outcomes`, in its place. Raises INVALID_FIELD."""
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


def standing_to(found: Standing | None, stop: Stop | None) -> pb.IncidentStanding:
    """What ingest or notify is told of an incident; None: it is unknown here."""
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
