"""Hands incident events to escalation, from the outbox."""

from collections.abc import Sequence
from typing import Protocol

from google.protobuf.message import DecodeError
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent, IncidentEventResult
from tocsin_kit.db.outbox import Dead, Done, OutboxRow, Outcome, Retry

_ACCEPTED = (
    IncidentEventResult.INCIDENT_EVENT_RESULT_APPLIED,
    IncidentEventResult.INCIDENT_EVENT_RESULT_DUPLICATE,
)


class EventSink(Protocol):
    """The port to escalation."""

    async def apply(self, events: Sequence[IncidentEvent]) -> Sequence[IncidentEventResult.ValueType]:
        """One result per event."""


class EventDelivery:
    """Delivers outbox rows of `tocsin_ingest.store.events.KINDS`; never more than one row of one incident at a time."""

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink

    async def deliver(self, rows: Sequence[OutboxRow]) -> Sequence[Outcome]:
        """One outcome per row. What escalation answers to the call as a whole is raised, for the relay to judge."""
        outcomes: dict[int, Outcome] = {}
        events: list[tuple[OutboxRow, IncidentEvent]] = []
        for row in rows:
            try:
                events.append((row, _event(row)))
            except DecodeError as error:
                outcomes[row.id] = Dead(f"cannot be read: {error}")
        if events:
            results = await self._sink.apply([event for _, event in events])
            for (row, _), result in zip(events, results, strict=True):
                outcomes[row.id] = Done() if result in _ACCEPTED else _not_yet(result)
        return [outcomes[row.id] for row in rows]


def _not_yet(result: IncidentEventResult.ValueType) -> Retry:
    name = IncidentEventResult.Name(result) if result in IncidentEventResult.values() else str(result)
    # With growing pauses: the event before it may be dead, and then only an operator's redrive helps.
    return Retry(name, blocked=result == IncidentEventResult.INCIDENT_EVENT_RESULT_OUT_OF_ORDER)


def _event(row: OutboxRow) -> IncidentEvent:
    event = IncidentEvent.FromString(row.payload)
    event.event_id = str(row.id)
    event.create_time.FromDatetime(row.create_time)
    return event
