"""Sends page outcomes from the outbox to escalation."""

from collections.abc import Sequence
from typing import Protocol

from google.protobuf.message import DecodeError
from tocsin.escalation.v1.internal_service_pb2 import PageOutcome, PageOutcomeResult
from tocsin_kit.db.outbox import Dead, Done, OutboxRow, RowAnswer


class OutcomeSink(Protocol):
    """The port to escalation."""

    async def apply(self, outcomes: Sequence[PageOutcome]) -> Sequence[PageOutcomeResult.ValueType]:
        """One result per outcome."""
        ...


class OutcomeDelivery:
    """Delivers outbox rows of `tocsin_notify.store.delivery.outcomes.KINDS`, at most 1000 at once. Their order does not matter."""

    def __init__(self, sink: OutcomeSink) -> None:
        self._sink = sink

    async def deliver(self, rows: Sequence[OutboxRow]) -> Sequence[RowAnswer]:
        """One answer per row. If escalation refuses the call as a whole, its error is raised, and the relay decides."""
        answers: dict[int, RowAnswer] = {}
        readable: list[tuple[OutboxRow, PageOutcome]] = []
        for row in rows:
            try:
                readable.append((row, PageOutcome.FromString(row.payload)))
            except DecodeError as error:
                answers[row.id] = Dead(f"cannot be read: {error}")
        if readable:
            results = await self._sink.apply([outcome for _, outcome in readable])
            for (row, outcome), result in zip(readable, results, strict=True):
                unknown = result == PageOutcomeResult.PAGE_OUTCOME_RESULT_INCIDENT_UNKNOWN
                answers[row.id] = Dead(f"escalation does not know {outcome.incident}") if unknown else Done()
        return [answers[row.id] for row in rows]
