"""What a committed decision sets going. All of it is hints: every effect has a row that a sweep finds without them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.tasks.journal import NO_NOTES, Noted, Notes

from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.incidents.timers import LiveTimer


class Arming(Protocol):
    """Puts timers into Redis and takes them out, after the commit and without waiting for it."""

    def arm(self, timers: Sequence[LiveTimer], now: datetime) -> None:
        """Arm these; `now` is the database's clock when they were read or written."""

    def disarm(self, incident_ids: Sequence[UUID]) -> None:
        """Disarm these."""


class Paging(Protocol):
    """Hands pages to notify, after the commit and without waiting for it."""

    def page(self, jobs: Sequence[NotificationJob]) -> None:
        """Hand these over now; their outbox rows do it again a second later, the sure way."""


class Nudging(Protocol):
    """Wakes the relay."""

    def nudge(self) -> None:
        """There is something to deliver."""


class Watching(Protocol):
    """Tells those who watch."""

    def changed(self, org_ids: Collection[str]) -> None:
        """These tenants have new entries in their timelines."""


class _Nobody:
    def changed(self, org_ids: Collection[str]) -> None:
        """Nobody watches."""


@dataclass(slots=True)
class TimerRetries:
    """What follows when a timer cannot be fired. Pauses are seconds. Options of the queue change it while the process runs.

    A timer is never given up: somebody would stay unpaged. After `attempts` failures its trouble is told loudly.
    """

    attempts: int = 3
    backoff: float = 5.0
    most_backoff: float = 300.0


@dataclass(frozen=True, slots=True)
class Effects:
    """Where committed decisions go."""

    arming: Arming
    paging: Paging
    relay: Nudging
    metrics: EscalationMetrics
    watching: Watching = field(default_factory=_Nobody)
    notes: Notes = NO_NOTES
    retries: TimerRetries = field(default_factory=TimerRetries)

    def note(self, happened: Iterable[Noted]) -> None:
        """It is committed: the journal of the queue may be told."""
        for each in happened:
            self.notes.note(each)

    def after(
        self, runs: Sequence[Escalation], now: datetime, jobs: Sequence[NotificationJob], *, cancelled: bool
    ) -> None:
        """Called once the transaction that saved `runs` and wrote the rows of `jobs` is committed."""
        if jobs:
            self.paging.page(jobs)
        armed = [
            LiveTimer(run.incident_id, run.timer.id, run.timer.generation, run.timer.due_time, run.facts.urgent)
            for run in runs
            if run.timer
        ]
        if armed:
            self.arming.arm(armed, now)
        if gone := [run.incident_id for run in runs if run.timer is None]:
            self.arming.disarm(gone)
        if cancelled:
            self.relay.nudge()
