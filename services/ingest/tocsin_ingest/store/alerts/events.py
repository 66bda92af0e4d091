"""Incident events as outbox rows: `tocsin.escalation.v1.IncidentEvent`, less the id and time only the row knows."""

from uuid import UUID

from tocsin.escalation.v1.internal_service_pb2 import (
    IncidentAcknowledged,
    IncidentEvent,
    IncidentNoted,
    IncidentOpened,
    IncidentResolved,
)
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin_kit.ids import format_name

from tocsin_ingest.domain.events import Acknowledged, AlertsAdded, Event, Noted, Opened, Resolved
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.store.incidents.records import IncidentRecord

INCIDENT_EVENT = "incident_event"
ALERTS_ADDED = "incident_alerts_added"
"""A kind of its own, so that a row that can still be rewritten is found without decoding payloads."""
KINDS = (INCIDENT_EVENT, ALERTS_ADDED)


def kind_of(event: Event) -> str:
    """The outbox kind the event travels as."""
    return ALERTS_ADDED if isinstance(event, AlertsAdded) else INCIDENT_EVENT


def encode(org_id: str, incident_id: UUID, sequence: int, event: Event) -> bytes:
    """The payload of the outbox row."""
    return event_of(org_id, incident_id, sequence, event).SerializeToString()


def event_of(org_id: str, incident_id: UUID, sequence: int, event: Event) -> IncidentEvent:
    """The event for escalation, without the id and time that only the row has."""
    message = IncidentEvent(org_id=org_id, incident=format_name("incidents", incident_id), sequence=sequence)
    match event:
        case Opened():
            first = event.first
            _open(message.opened, first.summary, event.severity, first.policy, first.integration_id, first.content)
            message.opened.alert_count, message.opened.resolved_by = event.alert_count, event.resolved_by
        case AlertsAdded():
            added = message.alerts_added
            added.alert_count, added.summary, added.new_keys = event.alert_count, event.summary, event.new_keys
            added.severity = event.severity  # type: ignore[assignment]
        case Acknowledged(actor=actor):
            message.acknowledged.CopyFrom(IncidentAcknowledged(actor=actor))
        case Resolved():
            message.resolved.CopyFrom(IncidentResolved(actor=event.actor, because=event.because))
        case Noted():
            message.noted.CopyFrom(IncidentNoted(actor=event.actor, text=event.text))
    return message


def opened_anew(record: IncidentRecord, sequence: int, because: str) -> IncidentEvent:
    """An `opened` that stands for all events up to `sequence`: the incident as ingest's record has it now."""
    event = IncidentEvent(org_id=record.org_id, incident=format_name("incidents", record.id), sequence=sequence)
    opened = event.opened
    _open(opened, record.title, record.severity, record.policy, record.integration_id, record.first_alert)
    opened.alert_count = record.alert_count
    opened.anew_because = because
    opened.resolved_by = record.resolved_by or ""
    event.create_time.FromDatetime(record.create_time)
    return event


def decode_alerts_added(payload: bytes) -> tuple[AlertsAdded, int]:
    """The event in a row of kind `ALERTS_ADDED`, with its sequence number."""
    message = IncidentEvent.FromString(payload)
    added = message.alerts_added
    return (
        AlertsAdded(added.alert_count, Severity(added.severity), added.summary, added.new_keys),
        message.sequence,
    )


def _open(
    opened: IncidentOpened, title: str, severity: Severity, policy: str, integration_id: str, first_alert: bytes
) -> None:
    content = AlertInput.FromString(first_alert)
    opened.title, opened.source, opened.policy = title, content.source, policy
    opened.severity = severity  # type: ignore[assignment]
    opened.labels.MergeFrom(content.labels)
    if integration_id:
        opened.integration = format_name("integrations", integration_id)
    for link in content.links:
        opened.links.add(href=link.href, text=link.text)
