"""Hands page outcomes to escalation, from the outbox."""

from collections.abc import Sequence
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from tocsin.escalation.v1.internal_service_pb2 import PageOutcome, PageOutcomeResult
from tocsin_kit.db.outbox import Dead, Done, OutboxRow, Outcome
from tocsin_kit.errors import TocsinError


class OutcomeSink(Protocol):
    """The port to escalation."""

    async def apply(self, outcomes: Sequence[PageOutcome]) -> Sequence[PageOutcomeResult.ValueType]:
        """One result per outcome."""
        ...


class OutcomeDelivery:
    """Delivers outbox rows of `tocsin_notify.store.outcomes.KINDS`, at most 1000 at once. Their order does not matter."""

    def __init__(self, sink: OutcomeSink) -> None:
        self._sink = sink

    async def deliver(self, rows: Sequence[OutboxRow]) -> Sequence[Outcome]:
        """One answer per row. An outcome that escalation refuses by itself dies alone, not with the batch it travels in."""
        answers: dict[int, Outcome] = {}
        readable: list[tuple[OutboxRow, PageOutcome]] = []
        for row in rows:
            try:
                readable.append((row, PageOutcome.FromString(row.payload)))
            except DecodeError as error:
                answers[row.id] = Dead(f"cannot be read: {error}")
        await self._send(readable, answers)
        return [answers[row.id] for row in rows]

    async def _send(self, pairs: Sequence[tuple[OutboxRow, PageOutcome]], answers: dict[int, Outcome]) -> None:
        if not pairs:
            return
        try:
            results = await self._sink.apply([outcome for _, outcome in pairs])
        except TocsinError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            if len(pairs) == 1:
                answers[pairs[0][0].id] = Dead(f"{error.reason_name}: {error.message}")
                return
            middle = len(pairs) // 2
            await self._send(pairs[:middle], answers)
            await self._send(pairs[middle:], answers)
            return
        for (row, outcome), result in zip(pairs, results, strict=True):
            if result == PageOutcomeResult.PAGE_OUTCOME_RESULT_INCIDENT_UNKNOWN:
                answers[row.id] = Dead(f"escalation does not know {outcome.incident}")
            else:
                answers[row.id] = Done()
