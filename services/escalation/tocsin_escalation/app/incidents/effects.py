"""What follows the commit of a decision. All of it is hints: a sweep finds the row of every effect without them."""

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
    """Adds timers to Redis and removes them, after the commit and without waiting for it."""

    def arm(self, timers: Sequence[LiveTimer], now: datetime) -> None:
        """Arm these; `now` is the database's clock when they were read or written."""

    def disarm(self, incident_ids: Sequence[UUID]) -> None:
        """Remove these."""


class Paging(Protocol):
    """Sends pages to notify, after the commit and without waiting for it."""

    def page(self, jobs: Sequence[NotificationJob]) -> None:
        """Send these now; the relay sends their outbox rows again a second later, by RPC."""


class Nudging(Protocol):
    """Wakes the relay."""

    def nudge(self) -> None:
        """The outbox has rows to deliver."""


class NudgingSoon(Protocol):
    """Wakes a relay for whose rows no one waits."""

    def nudge_soon(self) -> None:
        """The outbox has rows to deliver, and may have more in a moment."""


class Watching(Protocol):
    """Tells the streams of changes."""

    def changed(self, org_ids: Collection[str]) -> None:
        """These tenants have new entries in their timelines."""


class _Nobody:
    def changed(self, org_ids: Collection[str]) -> None:
        """There are no streams."""

    def nudge_soon(self) -> None:
        """There is no relay."""


@dataclass(slots=True)
class TimerRetries:
    """The retries of a timer whose firing failed. Pauses are seconds. Options of the queue change it while the process runs.

    A timer is never given up: a user would not be paged. After `attempts` failures an error is logged.
    """

    attempts: int = 3
    backoff: float = 5.0
    most_backoff: float = 300.0


@dataclass(frozen=True, slots=True)
class Effects:
    """Receives committed decisions."""

    arming: Arming
    paging: Paging
    relay: Nudging
    metrics: EscalationMetrics
    watching: Watching = field(default_factory=_Nobody)
    events: NudgingSoon = field(default_factory=_Nobody)
    """The relay of events for subscriptions."""
    follower_messages: NudgingSoon = field(default_factory=_Nobody)
    """The relay of messages to followers."""
    notes: Notes = NO_NOTES
    retries: TimerRetries = field(default_factory=TimerRetries)

    def note(self, happened: Iterable[Noted]) -> None:
        """It is committed: write it to the queue's journal."""
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
