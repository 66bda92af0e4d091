"""Messages to users about their time on call, as outbox rows. Their relay is not that of pages, and sweeps each second."""

from collections.abc import Sequence
from typing import Final

from tocsin.notify.v1 import notification_pb2
from tocsin.notify.v1.shift_pb2 import ShiftContent
from tocsin.type.v1.severity_pb2 import SEVERITY_INFO
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx
from tocsin_kit.ids import new_id

from tocsin_escalation.domain.schedules.clock import clock_or_utc, time_of

NOTICE: Final = "notice"
"""The kind of their outbox rows."""


def job(
    org_id: str, user: str, channel: str, told: ShiftContent, schedules: frozenset[str], planned: int, expires: int
) -> notification_pb2.NotificationJob:
    """One message. `channel` empty: as the user's rules say. `schedules`: those that it is about."""
    made = notification_pb2.NotificationJob(
        page=f"pages/{new_id()}",
        org_id=org_id,
        type=notification_pb2.NOTIFICATION_TYPE_MESSAGE,
        user=f"users/{user}",
        about=f"schedules/{next(iter(schedules))}" if len(schedules) == 1 else "",
        severity=SEVERITY_INFO,
        shift=told,
    )
    if channel:
        made.channel_override = notification_pb2.Channel.Value(f"CHANNEL_{channel.upper()}")
    made.planned_time.FromDatetime(time_of(planned))
    made.expire_time.FromDatetime(time_of(expires))
    return made


async def append(tx: Tx, jobs: Sequence[notification_pb2.NotificationJob]) -> None:
    """They are sent if the transaction commits."""
    if jobs:
        await outbox.append_many(tx, NOTICE, [("", each.SerializeToString()) for each in jobs])


def zone_of(time_zone: str) -> str:
    """A user's; one that is not known any more counts as UTC."""
    return clock_or_utc(time_zone or "UTC").zone
