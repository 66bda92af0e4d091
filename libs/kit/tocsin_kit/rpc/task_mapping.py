"""Tasks as messages of the contract."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from tocsin.queue.v1 import task_pb2 as pb

from tocsin_kit.rpc.timestamps import timestamp
from tocsin_kit.tasks.journal import Minute, spread
from tocsin_kit.tasks.task import Loss, Task, TaskEvent, TaskState

STATES: Final[Mapping[int, TaskState]] = {
    pb.TASK_STATE_WAITING: TaskState.WAITING,
    pb.TASK_STATE_ACTIVE: TaskState.ACTIVE,
    pb.TASK_STATE_DELAYED: TaskState.DELAYED,
    pb.TASK_STATE_DEAD: TaskState.DEAD,
}
KEPT_STATES: Final = (pb.TASK_STATE_COMPLETED, pb.TASK_STATE_FAILED)
"""Those that the journal keeps, and no row tells."""
_NUMBERS: Final = {state: number for number, state in STATES.items()}


def task_to(queue: str, task: Task) -> pb.Task:
    """The task, for the contract."""
    return pb.Task(
        name=f"queues/{queue}/tasks/{task.key}",
        org_id=task.org_id,
        state=_NUMBERS[task.state],  # type: ignore[arg-type]  # the number is the enum's own
        summary=task.summary,
        due_time=timestamp(task.due_time),
        create_time=timestamp(task.create_time),
        attempts=task.attempts,
        error=task.error,
        about=task.about,
        user=task.user,
    )


def events_to(events: Iterable[TaskEvent]) -> list[pb.TaskEvent]:
    """A history."""
    found = []
    for event in events:
        message = pb.TaskEvent(time=timestamp(event.time), text=event.text)
        if event.duration is not None:
            message.duration.FromTimedelta(event.duration)
        found.append(message)
    return found


def losses_to(losses: Iterable[Loss]) -> list[pb.TaskLoss]:
    """Who stays unpaged."""
    return [
        pb.TaskLoss(
            org_id=loss.org_id,
            about=loss.about,
            user=loss.user,
            text=loss.text,
        )
        for loss in losses
    ]


def counts_to(counts: Mapping[str, int]) -> list[pb.TaskCount]:
    """Those that are not 0, by kind."""
    return [pb.TaskCount(kind=kind, count=count) for kind, count in sorted(counts.items()) if count]


def minute_to(minute: Minute) -> pb.QueueMinute:
    """The figures of one minute, for the contract."""
    counts = minute.counts
    retried, dead = counts.get("retried", 0), counts.get("dead", 0)
    return pb.QueueMinute(
        start_time=timestamp(minute.start_time),
        added=counts.get("added", 0),
        completed=counts.get("completed", 0),
        failed=counts.get("failed", 0) + retried + dead,
        retried=retried,
        dead=dead,
        stalled=counts.get("stalled", 0),
        lateness=spread_to(*spread([minute], "l")),
        duration=spread_to(*spread([minute], "d")),
    )


def spread_to(count: int, quantiles: Sequence[timedelta]) -> pb.Spread:
    """p50, p90, p99 and the highest of so many values."""
    message = pb.Spread(count=count)
    for name, value in zip(("p50", "p90", "p99", "max"), quantiles, strict=False):
        getattr(message, name).FromTimedelta(value)
    return message
