"""What becomes of an outbox row after escalation's answer."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from prometheus_client import CollectorRegistry
from tocsin.escalation.v1.internal_service_pb2 import IncidentAlertsAdded, IncidentEvent, IncidentEventResult
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.incidents.records import IncidentRecord
from tocsin_ingest.work.relay import EventDelivery
from tocsin_kit.db.outbox import Done, OutboxRow, Retry


class Escalation:
    """Answers each event with the result of its place."""

    def __init__(self, *results: int) -> None:
        self.calls = 0
        self._results = results

    async def apply(self, events: Sequence[IncidentEvent]) -> Sequence[IncidentEventResult.ValueType]:
        self.calls += 1
        return [IncidentEventResult.ValueType(each) for each in self._results]


class NoRecords:
    async def of(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], IncidentRecord]:
        raise AssertionError("nothing is opened anew")

    async def over(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], str]:
        raise AssertionError("no opening waited")

    async def counts(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], int]:
        return {}


def row(number: int) -> OutboxRow:
    incident = f"incidents/{uuid4()}"
    event = IncidentEvent(org_id="acme", incident=incident, sequence=2, alerts_added=IncidentAlertsAdded(alert_count=2))
    return OutboxRow(number, "acme", incident, "event", event.SerializeToString(), datetime.now(UTC), attempts=1)


async def test_an_event_whose_policy_is_held_is_sent_again_at_once_and_its_neighbours_are_done() -> None:
    busy, applied = IncidentEventResult.INCIDENT_EVENT_RESULT_BUSY, IncidentEventResult.INCIDENT_EVENT_RESULT_APPLIED
    sink = Escalation(busy, applied, busy)
    delivery = EventDelivery(sink, NoRecords(), IngestMetrics(CollectorRegistry()))
    first, second, third = await delivery.deliver([row(1), row(2), row(3)])
    assert second == Done()
    for outcome in (first, third):
        assert isinstance(outcome, Retry)
        assert outcome.error == "INCIDENT_EVENT_RESULT_BUSY"
        assert not outcome.blocked, "no earlier event is missing"
        assert outcome.after is not None, "pauses do not grow while turns are taken"
        assert 0.01 < outcome.after < 0.1
    assert sink.calls == 1


async def test_a_result_of_a_later_release_is_tried_again_with_growing_pauses() -> None:
    delivery = EventDelivery(Escalation(99), NoRecords(), IngestMetrics(CollectorRegistry()))
    assert await delivery.deliver([row(1)]) == [Retry("99")]
