"""Notes for notify's journal about notifications (`tocsin_kit.tasks.journal`)."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin.queue.v1 import task_pb2 as pb
from tocsin_kit.tasks.journal import Noted

from tocsin_notify.app.delivery.calls import Finished, Start
from tocsin_notify.domain.page import State
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.delivery.rows import Concluded

_TASK: Final = "notifications"
_MESSAGE: Final = "messages"
_KINDS: Final = {
    State.SENT: pb.TASK_CHANGE_KIND_COMPLETED,
    State.PENDING: pb.TASK_CHANGE_KIND_RETRIED,
    State.DEAD: pb.TASK_CHANGE_KIND_DEAD,
}


def begun(start: Start) -> Noted:
    """An attempt begins."""
    delivery = start.delivery
    return Noted(
        pb.TASK_CHANGE_KIND_ACTIVE,
        _TASK,
        delivery.notification,
        delivery.org_id,
        delivery.start_time,
        f"{delivery.kind} by {delivery.target.channel}",
        delivery.job.incident,
        delivery.job.user,
        attempts=delivery.attempt,
    )


def concluded(row: Concluded, state: str, finished: Finished) -> Noted:
    """An attempt has ended, and its notification is in `state`."""
    late = (row.now - row.planned_time) / timedelta(seconds=1) if row.planned_time else None
    delivery = finished.start.delivery
    return Noted(
        _KINDS.get(State(state), pb.TASK_CHANGE_KIND_FAILED),
        _TASK,
        row.id,
        row.org_id,
        row.now,
        f"{row.type} by {delivery.target.channel}",
        f"incidents/{row.incident}" if row.incident else "",
        row.user_id,
        delivery.attempt,
        row.detail,
        finished.seconds,
        late if state == State.SENT else None,
    )


def added(row: NewNotification, now: datetime) -> Noted:
    """A notification is made."""
    return Noted(
        pb.TASK_CHANGE_KIND_ADDED,
        _TASK,
        row.id,
        row.org_id,
        now,
        f"by {row.channel}, step {row.step}",
        f"incidents/{row.incident}" if row.incident else "",
        row.user_id,
        due_time=now + timedelta(seconds=row.delay),
    )


def scheduled(id: UUID, org_id: str, user: str, channel: str | None, due: datetime, now: datetime) -> Noted:
    """A message is made, or is due at another time."""
    summary = f"message by {channel} to an address" if channel else "message"
    return Noted(pb.TASK_CHANGE_KIND_ADDED, _MESSAGE, id, org_id, now, summary, user=user, due_time=due)


def stalled(ended: Collection[UUID], now: datetime) -> list[Noted]:
    """The process that sent these died. Their rows name their tenants."""
    return [Noted(pb.TASK_CHANGE_KIND_STALLED, _TASK, id, "", now) for id in ended]
