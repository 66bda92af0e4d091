"""What a committed decision sets going. All of it is hints: every effect has a row that a sweep finds without them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.timers import LiveTimer


class Arming(Protocol):
    """Puts timers into Redis and takes them out, after the commit and without waiting for it."""

    def arm(self, timers: Sequence[LiveTimer], now: datetime) -> None:
        """Arm these; `now` is the database's clock when they were read or written."""

    def disarm(self, incident_ids: Sequence[UUID]) -> None:
        """Disarm these."""


class Nudging(Protocol):
    """Wakes the relay."""

    def nudge(self) -> None:
        """There is something to deliver."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Where committed decisions go."""

    arming: Arming
    relay: Nudging
    metrics: EscalationMetrics

    def after(self, runs: Sequence[Escalation], now: datetime, *, outbox: bool) -> None:
        """Called once the transaction that saved `runs` is committed."""
        armed = [
            LiveTimer(run.incident_id, run.timer.id, run.timer.generation, run.timer.due_time, run.facts.urgent)
            for run in runs
            if run.timer
        ]
        if armed:
            self.arming.arm(armed, now)
        if gone := [run.incident_id for run in runs if run.timer is None]:
            self.arming.disarm(gone)
        if outbox:
            self.relay.nudge()
