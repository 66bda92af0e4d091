"""Decide alerts again whose silence or pause is over, or was changed: an alert that still fires opens its incident, or joins the
open one.

Due alerts are rows, so nothing is lost when a process dies or Redis is away. The alert is handled like one that a sender sends:
the same routing, the same decision, the same batches. Two replicas may handle one alert; the second one finds that it is no
longer held back.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.intake_times import GAP
from tocsin_ingest.app.alerts.route_alert import Stated, route_alert
from tocsin_ingest.app.integrations.directory import Directory, Routing
from tocsin_ingest.app.tenant_by_tenant import tenant_by_tenant
from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.domain.decision import AlertState
from tocsin_ingest.domain.message import Action
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts import due_alerts, holds, intakes, pauses
from tocsin_ingest.store.alerts.due_alerts import DueAlert

_log = get_logger(__name__)

EVERY: Final = 1.0
"""Seconds between two rounds: how late an incident may be opened after its silence or pause."""
_AT_ONCE: Final = 200
_HURRIED_AT_ONCE: Final = 2000
_POSTPONED: Final = 60.0
_LATE: Final = 10.0


class Waiting(Protocol):
    """A module of the store: alerts that wait for the end of a silence, or of a pause."""

    async def due(self, tx: Tx, limit: int, *, without: Collection[str], since: datetime | None) -> list[DueAlert]:
        """The alerts that are due."""

    async def drop(self, tx: Tx, alert_ids: Sequence[UUID]) -> None:
        """Remove those that no longer wait."""

    async def postpone(self, tx: Tx, alert_id: UUID, seconds: float) -> None:
        """Postpone one that cannot be decided now."""

    async def overdue(self, tx: Tx, seconds: float) -> int:
        """How many were not decided in time."""


class LookAgain:
    """`round` is one round, of all tenants."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        batches: Batches[Entry, bytes],
        metrics: IngestMetrics,
    ) -> None:
        self._database = database
        self._directory = directory
        self._batches = batches
        self._metrics = metrics

    async def round(self) -> None:
        """All due alerts. Raises DATABASE_UNAVAILABLE."""
        async with self._database.autocommit() as tx:
            if not await due_alerts.is_any_due(tx):
                self._metrics.holds_overdue.set(0)
                return
        while await self._hurry() == _HURRIED_AT_ONCE:
            pass
        # In parallel: neither waits for the other, and both have ended before this returns.
        looks = (self._look_at_all("silences", holds), self._look_at_all("pauses", pauses))
        for ended in await asyncio.gather(*looks, return_exceptions=True):
            if ended is not None:
                raise ended
        async with self._database.system() as tx:
            self._metrics.holds_overdue.set(await holds.overdue(tx, _LATE) + await pauses.overdue(tx, _LATE))

    async def _hurry(self) -> int:
        async with self._database.claim() as tx:
            return await holds.hurry(tx, _HURRIED_AT_ONCE)

    async def _look_at_all(self, name: str, waiting: Waiting) -> None:
        without: set[str] = set()
        while True:
            async with self._database.claim() as tx:
                since = await intakes.since(tx, GAP)
                due = await waiting.due(tx, _AT_ONCE, without=without, since=since)
            if waiting is holds:
                for org_id in {each.org_id for each in due}:
                    # Silences that were read before one ended, here or at another replica, must not hold the alerts back again.
                    self._directory.silences_changed(org_id)

            async def look(_org_id: str, mine: list[DueAlert]) -> None:
                await self._look_at_those_of(waiting, mine)

            # A tenant whose alerts must wait is left out: otherwise it would be first again, and all others would wait with it.
            without |= await tenant_by_tenant(
                due, look, name=name, failures=self._metrics.tenant_failures, at_once=_AT_ONCE
            )
            if len(due) < _AT_ONCE:
                return

    async def _look_at_those_of(self, waiting: Waiting, due: list[DueAlert]) -> None:
        """Raises the first TocsinError, after all were handled; these stay due."""
        outcomes = await asyncio.gather(*(self._look(waiting, each) for each in due), return_exceptions=True)
        waits: TocsinError | None = None
        for each, outcome in zip(due, outcomes, strict=True):
            if isinstance(outcome, TocsinError):
                waits = waits or outcome
            elif isinstance(outcome, Exception):
                await self._postpone(waiting, each, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
        if waits is not None:
            raise waits

    async def _look(self, waiting: Waiting, due: DueAlert) -> None:
        if due.state is not AlertState.SUPPRESSED:
            async with self._database.transaction(due.org_id) as tx:
                await waiting.drop(tx, [due.id])
            return
        alert = AlertInput.FromString(due.newest)
        alert.dedup_key = due.dedup_key
        routing = await self._routing(due)
        labels = {**alert.labels, **AlertInput.FromString(due.labels).labels} if due.labels is not None else None
        message = route_alert(self._directory, due.org_id, INGEST, routing, alert, Stated(labels))
        message = replace(
            message,
            key=due.key,
            # Its sender never resolves alerts: no user is paged for an alert that counts as over by the rules of its integration.
            action=Action.RESOLVE if due.quiet else Action.TRIGGER,
            content=due.newest,
            started=due.start_time,
            seen=due.count,
        )
        await self._batches.submit(Entry(due.org_id, message))

    async def _routing(self, due: DueAlert) -> Routing:
        try:
            return await self._directory.routing(due.org_id, due.integration_id)
        except TocsinError as error:
            if error.reason != ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND:
                raise
        # The integration was deleted while its alert was held back: no sender can resolve the alert any more, so a person must
        # look.
        without = await self._directory.routing(due.org_id, "")
        return replace(without, integration_id=due.integration_id)

    async def _postpone(self, waiting: Waiting, due: DueAlert, error: Exception) -> None:
        self._metrics.holds_failed.inc()
        _log.error("held_alert_failed", org_id=due.org_id, alert=str(due.id), exc_info=error)
        async with self._database.transaction(due.org_id) as tx:
            await waiting.postpone(tx, due.id, _POSTPONED)
