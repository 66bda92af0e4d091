"""The body of a request to a subscription's endpoint."""

import json
from typing import Final

from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from tocsin.notify.v1.incident_event_pb2 import EventData, EventPayload, IncidentEvent

from tocsin_notify.app.events.event_types import NAMES
from tocsin_notify.store.events.event_deliveries import EventDelivery
from tocsin_notify.store.events.subscriptions import Subscription

MOST_BYTES: Final = 16 << 10
"""Follows from the bounds of an event's texts: a character takes at most six bytes."""


def payload(subscription: Subscription, delivery: EventDelivery) -> bytes:
    """The `EventPayload` as JSON. Raises DecodeError for an event that cannot be read, ValueError for one that JSON cannot say."""
    event = IncidentEvent.FromString(delivery.event)
    data = EventData(
        organization=subscription.org_id,
        subscription=f"subscriptions/{subscription.id}",
        sequence=delivery.sequence,
        events_lost=subscription.lost,
        actor=event.actor,
        message=event.message,
    )
    if event.HasField("incident"):
        data.incident.CopyFrom(event.incident)
    message = EventPayload(type=NAMES.get(event.type, delivery.type), timestamp=event.time, data=data)
    try:
        fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    except SerializeToJsonError as error:
        raise ValueError(str(error)) from error
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
