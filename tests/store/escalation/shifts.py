"""Shifts of ana and ben, what they want to be told of them, and what they were told."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from tocsin.notify.v1 import notification_pb2
from tocsin_escalation.app.notices import shift_notices
from tocsin_escalation.app.notices.notice_jobs import NOTICE
from tocsin_escalation.app.schedules import overrides, schedules
from tocsin_escalation.domain.schedules.model import Layer, Scope, Turn, Unit
from tocsin_escalation.store.notices.shift_notices import NoticeSettings
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_notify.app.pages.jobs import read_job

from tests.store.escalation.recorders import ORG, Desk
from tests.unit.escalation.schedules.writing import group, local

HOUR = timedelta(hours=1)


async def begins_in(desk: Desk, hours: int, *, schedule: str = "web") -> datetime:
    """When ana's shift begins; ben has the one before it."""
    start = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=hours)
    anchor = local(f"{start - timedelta(days=7):%Y-%m-%d %H:%M}")
    layer = Layer("week", (Turn(Unit.WEEK, 1),), anchor, (group("ben"), group("ana")), "UTC")
    await desk.db.run(
        ORG, lambda tx: schedules.create(tx, ScheduleRow(schedule, schedule.title(), "", "UTC", False, (layer,)))
    )
    return start


async def want(desk: Desk, wanted: NoticeSettings, *users: str) -> None:
    for user in users:
        await desk.db.run(ORG, lambda tx, user=user: shift_notices.replace(tx, user, "", wanted))  # type: ignore[misc]


async def sent(desk: Desk) -> list[notification_pb2.NotificationJob]:
    """As notify lets an English user read them."""
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT payload FROM outbox WHERE kind = $1 ORDER BY id", NOTICE)
    return [read_job(notification_pb2.NotificationJob.FromString(row["payload"])).job for row in rows]


async def puts(desk: Desk, user: str, start: datetime, *, hours: int) -> None:
    row = OverrideRow(uuid4(), "web", start, start + hours * HOUR, Scope.SCHEDULE, "", (user,), "", "users/ana")
    await desk.db.run(ORG, lambda tx: overrides.create_override(tx, row))
