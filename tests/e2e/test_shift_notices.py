"""Notices of shifts through the running services, to the phones of people."""

import json
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import schedule_pb2
from tocsin.escalation.v1 import schedule_service_pb2 as schedules
from tocsin.escalation.v1 import shift_notice_service_pb2 as pb
from tocsin_testkit.busy import until
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Tenant

from tests.e2e.test_schedules import now, time

HOUR = timedelta(hours=1)


async def wants(one: Person) -> None:
    """A notice an hour before each of their shifts."""
    settings = pb.ShiftNoticeSettings(user=one.name, before=Duration(seconds=3600))
    request = pb.UpdateShiftNoticeSettingsRequest(shift_notice_settings=settings)
    await one.own.shift_notices.UpdateShiftNoticeSettings(request)


async def planned(tenant: Tenant, one: Person) -> list[datetime]:
    """When their planned notices are due."""
    answer = await tenant.admin.shift_notices.ListShiftNotices(pb.ListShiftNoticesRequest(user=one.name))
    waiting = [each for each in answer.shift_notices if each.state == pb.SHIFT_NOTICE_STATE_PLANNED]
    return [each.due_time.ToDatetime() for each in waiting]


async def test_whoever_has_the_shift_by_then_is_told_an_hour_before_it(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    began = (await now(tenant)).replace(second=0, microsecond=0)
    first, second = began + 3 * HOUR, began + 6 * HOUR
    schedule = await tenant.schedule("web", ana, start=f"{first:%Y-%m-%dT%H:%M}")
    other = await tenant.schedule("db", ben, start=f"{second:%Y-%m-%dT%H:%M}")
    for one in (ana, ben, cem):
        await wants(one)
    await until(lambda: planned(tenant, ana))
    await until(lambda: planned(tenant, ben))
    await tenant.passes(minutes=121)
    told = await ana.is_told("", "message")
    assert told.subject.startswith(f"[message] Your shift begins {first:%a} {first.day} {first:%b %H:%M}, in ")
    assert json.loads(told.body)["message"]["about"] == schedule

    override = schedule_pb2.Override(
        schedule=other, start_time=time(second), end_time=time(second + 24 * HOUR), users=[cem.name]
    )
    await tenant.admin.schedules.CreateOverride(schedules.CreateOverrideRequest(override=override))
    await until(lambda: planned(tenant, cem))
    await tenant.passes(minutes=180)
    assert (await cem.is_told("", "message")).subject.startswith("[message] Your shift begins ")
    assert ben.told("", "message") == []
    assert ana.told("", "message") == [told]
