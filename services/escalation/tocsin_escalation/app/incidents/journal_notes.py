"""Notes for escalation's journal about timers (`tocsin_kit.tasks.journal`). A timer's id is its incident's."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin.queue.v1 import task_pb2 as pb
from tocsin_kit.tasks.journal import Noted

from tocsin_escalation.domain.escalation import Escalation

_TASK: Final = "timers"


def added(runs: Iterable[Escalation], now: datetime) -> list[Noted]:
    """These have a new timer, or one that was moved."""
    return [
        Noted(
            pb.TASK_CHANGE_KIND_ADDED,
            _TASK,
            run.incident_id,
            run.org_id,
            now,
            f"{run.timer.kind.value} of level {run.level}: {run.facts.title}",
            f"incidents/{run.incident_id}",
            due_time=run.timer.due_time,
        )
        for run in runs
        if run.timer is not None
    ]


def fired(before: Escalation, after: Escalation, timer_id: UUID, now: datetime) -> list[Noted]:
    """A timer fired; no note if it had no effect: a stale one is no work."""
    timer = before.timer
    if timer is None or timer.id != timer_id or after.timer == timer:
        return []
    return [
        Noted(
            pb.TASK_CHANGE_KIND_COMPLETED,
            _TASK,
            before.incident_id,
            before.org_id,
            now,
            f"{timer.kind.value} of level {before.level}: {before.facts.title}",
            f"incidents/{before.incident_id}",
            late=max(0.0, (now - timer.due_time) / timedelta(seconds=1)),
        )
    ]


def failed(incident_id: UUID, now: datetime, attempts: int, error: str) -> Noted:
    """Its firing failed, and is tried again later."""
    return Noted(
        pb.TASK_CHANGE_KIND_RETRIED,
        _TASK,
        incident_id,
        "",
        now,
        "a timer that could not be fired",
        f"incidents/{incident_id}",
        attempts=attempts,
        error=error,
    )
