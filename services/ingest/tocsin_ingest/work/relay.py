"""Hands incident events to escalation, from the outbox."""

import random
from collections.abc import Sequence
from typing import Final, Protocol
from uuid import UUID

from google.protobuf.message import DecodeError
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent, IncidentEventResult
from tocsin_kit.db.outbox import Dead, Done, OutboxRow, Retry, RowAnswer
from tocsin_kit.db.relay_verdicts import Verdict, judge
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.timestamps import set_time

from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts.events import opened_anew
from tocsin_ingest.store.incidents.records import IncidentRecord
from tocsin_ingest.work.substitute import strip

_log = get_logger(__name__)

_ACCEPTED: Final = (
    IncidentEventResult.INCIDENT_EVENT_RESULT_APPLIED,
    IncidentEventResult.INCIDENT_EVENT_RESULT_DUPLICATE,
)
_CAUSES: Final = {
    IncidentEventResult.INCIDENT_EVENT_RESULT_UNKNOWN_INCIDENT: "escalation did not know the incident",
    IncidentEventResult.INCIDENT_EVENT_RESULT_OUT_OF_ORDER: "escalation lacked an earlier event of the incident",
}
"""Results that no repeat of the event alone can change, and why the incident is opened anew after them."""
_REFUSED: Final = (Verdict.CONTENT, Verdict.FAULT)
_BUSY_PAUSE: Final = 0.05
"""Seconds, more or less by half, until an event whose policy was held is sent again: a turn is taken within milliseconds."""


class EventSink(Protocol):
    """The port to escalation."""

    async def apply(self, events: Sequence[IncidentEvent]) -> Sequence[IncidentEventResult.ValueType]:
        """One result per event."""


class Records(Protocol):
    """Ingest's own record of incidents."""

    async def of(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], IncidentRecord]:
        """Those of the incidents (tenant, id) that ingest has."""

    async def over(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], str]:
        """By whom or what those of the incidents were resolved that are."""

    async def counts(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], int]:
        """How many alerts each of them holds, for events that are delivered now."""


class EventDelivery:
    """Delivers outbox rows of `tocsin_ingest.store.alerts.events.KINDS`; never more than one row of one incident at a time."""

    def __init__(self, sink: EventSink, records: Records, metrics: IngestMetrics) -> None:
        self._sink = sink
        self._records = records
        self._metrics = metrics

    async def deliver(self, rows: Sequence[OutboxRow]) -> Sequence[RowAnswer]:
        """One answer per row. What escalation answers to the call as a whole is raised, for the relay to judge.

        An incident that was resolved before escalation could hear of it is told as resolved, so that it pages no one.

        Where escalation lacks what must come before an event, the incident is opened there anew from ingest's record, so
        that no event is out of order for ever.
        """
        answers: dict[int, RowAnswer] = {}
        events: list[tuple[OutboxRow, IncidentEvent]] = []
        for row in rows:
            try:
                events.append((row, _event(row)))
            except DecodeError as error:
                answers[row.id] = Dead(f"cannot be read: {error}")
        lost: list[tuple[OutboxRow, IncidentEvent, str]] = []
        if events:
            await self._count([(row.org_id, event) for row, event in events if event.HasField("alerts_added")])
            await self._end([(row.org_id, event) for row, event in events if row.attempts and event.HasField("opened")])
            results = await self._sink.apply([event for _, event in events])
            for (row, event), result in zip(events, results, strict=True):
                answers[row.id] = Done() if result in _ACCEPTED else _not_yet(result)
                if result in _CAUSES:
                    lost.append((row, event, _CAUSES[result]))
        if lost:
            await self._open_anew(lost, answers)
        return [answers[row.id] for row in rows]

    async def _end(self, openings: Sequence[tuple[str, IncidentEvent]]) -> None:
        """Those that were not delivered from memory, right after their commit, may have waited for escalation since long."""
        if not openings:
            return
        named = [((org_id, _incident_id(event)), event) for org_id, event in openings]
        over = await self._records.over([of for of, _ in named])
        for of, event in named:
            event.opened.resolved_by = event.opened.resolved_by or over.get(of, "")

    async def _count(self, events: Sequence[tuple[str, IncidentEvent]]) -> None:
        """How many alerts there are now: repeats are counted in the incident alone while an event waits."""
        if not events:
            return
        named = [((org_id, _incident_id(event)), event) for org_id, event in events]
        counts = await self._records.counts([of for of, _ in named])
        for of, event in named:
            added = event.alerts_added
            added.alert_count = max(added.alert_count, counts.get(of, 0))

    async def _open_anew(
        self, lost: Sequence[tuple[OutboxRow, IncidentEvent, str]], answers: dict[int, RowAnswer]
    ) -> None:
        """Each alone: they are few, an opening may be large, and one that is refused is its own affair."""
        records = await self._records.of([(row.org_id, _incident_id(event)) for row, event, _ in lost])
        for row, event, cause in lost:
            record = records.get((row.org_id, _incident_id(event)))
            if record is None:
                answers[row.id] = Dead(f"{cause}, and ingest has no record of it")
                continue
            result = await self._apply_or_less(_with_opening(record, event, cause))
            answers[row.id] = Done() if result in _ACCEPTED else _not_yet(result)
            if result in _ACCEPTED:
                self._metrics.opened_anew.inc()
                _log.error("incident_opened_anew", org_id=row.org_id, incident=event.incident, reason=cause)

    async def _apply_or_less(self, events: Sequence[IncidentEvent]) -> IncidentEventResult.ValueType:
        """The result of the last event. What is refused is sent once more without what may be the cause."""
        try:
            return (await self._sink.apply(events))[-1]
        except TocsinError as error:
            less = [strip(event) or event for event in events]
            if judge(error).verdict not in _REFUSED or less == events:
                raise
        return (await self._sink.apply(less))[-1]


def _with_opening(record: IncidentRecord, event: IncidentEvent, cause: str) -> list[IncidentEvent]:
    """The incident as it is now, at the number before the event's own, and then the event; later ones go on from there.

    Of an incident that is over there is nothing to come: one opening that says so stands for all its events.
    """
    over = record.resolved_by is not None
    alone = over or event.HasField("opened")
    sequence = max(record.sequence, event.sequence) if over else event.sequence if alone else event.sequence - 1
    opening = opened_anew(record, sequence, cause)
    opening.event_id = f"{event.event_id}-anew"
    return [opening] if alone else [opening, event]


def _not_yet(result: IncidentEventResult.ValueType) -> Retry:
    name = IncidentEventResult.Name(result) if result in IncidentEventResult.values() else str(result)
    busy = result == IncidentEventResult.INCIDENT_EVENT_RESULT_BUSY
    after = _BUSY_PAUSE * random.uniform(0.5, 1.5) if busy else None
    return Retry(name, after=after, blocked=result in _CAUSES)


def _event(row: OutboxRow) -> IncidentEvent:
    event = IncidentEvent.FromString(row.payload)
    event.event_id = str(row.id)
    if not event.HasField("create_time"):
        set_time(event.create_time, row.create_time)
    return event


def _incident_id(event: IncidentEvent) -> UUID:
    return parse_uuid_name(event.incident, "incidents")
