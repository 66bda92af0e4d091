"""Hands pages and cancellations to notify the sure way: by RPC, again and again until it is accepted."""

from collections.abc import Awaitable, Callable, Sequence

from tocsin.notify.v1 import internal_service_pb2, notification_pb2
from tocsin_kit.db.outbox import Done, OutboxRow, Outcome, Retry
from tocsin_kit.errors import TocsinError

from tocsin_escalation.clients.notify import Notify

KINDS = ("cancel", "page")
HandOver = Callable[[Sequence[OutboxRow]], Awaitable[None]]


class Delivery:
    """Delivers outbox rows. Pages come here a second after the pager has tried; see `work.pager`."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify

    async def deliver(self, rows: Sequence[OutboxRow]) -> Sequence[Outcome]:
        """One answer per row, in order. A kind that fails is tried again without holding up the other."""
        answers: dict[int, Outcome] = {}
        for kind, hand_over in (("cancel", self._cancel), ("page", self._submit)):
            if some := [row for row in rows if row.kind == kind]:
                answer = await self._try(hand_over, some)
                answers.update((row.id, answer) for row in some)
        return [answers[row.id] for row in rows]

    async def _try(self, hand_over: HandOver, rows: Sequence[OutboxRow]) -> Outcome:
        try:
            await hand_over(rows)
        except TocsinError as error:
            return Retry(f"{error.reason_name}: {error.message}")
        return Done()

    async def _submit(self, rows: Sequence[OutboxRow]) -> None:
        await self._notify.submit([notification_pb2.NotificationJob.FromString(row.payload) for row in rows])

    async def _cancel(self, rows: Sequence[OutboxRow]) -> None:
        await self._notify.cancel([internal_service_pb2.Cancellation.FromString(row.payload) for row in rows])
