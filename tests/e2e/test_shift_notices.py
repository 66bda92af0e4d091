"""Notices of shifts through the running services, to the phones of people."""

import json
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import schedule_pb2, swap_pb2
from tocsin.escalation.v1 import schedule_service_pb2 as schedules
from tocsin.escalation.v1 import shift_notice_service_pb2 as pb
from tocsin_testkit.busy import until
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests.e2e.schedule_calls import now, time

HOUR = timedelta(hours=1)


async def wants(one: Person) -> None:
    """A notice an hour before each of their shifts."""
    settings = pb.ShiftNoticeSettings(user=one.name, before=Duration(seconds=3600))
    request = pb.UpdateShiftNoticeSettingsRequest(shift_notice_settings=settings)
    await one.own.shift_notices.UpdateShiftNoticeSettings(request)


async def wants_to_know(one: Person) -> None:
    """What moves in their shifts, and which swaps are offered to them."""
    settings = pb.ShiftNoticeSettings(user=one.name, changes=True, swaps=True)
    request = pb.UpdateShiftNoticeSettingsRequest(shift_notice_settings=settings)
    answer = await one.own.shift_notices.UpdateShiftNoticeSettings(request)
    assert (answer.shift_notice_settings.changes, answer.shift_notice_settings.swaps) == (True, True)


async def planned(tenant: Tenant, one: Person) -> list[datetime]:
    """When their planned notices are due."""
    answer = await tenant.admin.shift_notices.ListShiftNotices(pb.ListShiftNoticesRequest(user=one.name))
    waiting = [each for each in answer.shift_notices if each.state == pb.SHIFT_NOTICE_STATE_PLANNED]
    return [each.due_time.ToDatetime() for each in waiting]


async def test_the_user_who_has_the_shift_by_then_is_told_an_hour_before_it(tenant: Tenant) -> None:
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


async def test_ben_is_told_of_a_swap_that_ana_offers_and_then_that_her_shift_is_his(
    tenant: Tenant, world: World
) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = (await now(tenant)).replace(second=0, microsecond=0)
    await wants_to_know(ben)
    schedule = await tenant.schedule("web", ana, start=f"{began:%Y-%m-%dT%H:%M}")
    hours = 0

    async def takes_an_hour() -> bool:
        # What he knows is written down by a look at the schedules, and what comes before that is no change.
        nonlocal hours
        hours += 1
        start = began + 240 * HOUR + hours * HOUR
        offered = swap_pb2.SwapStretch(start_time=time(start), end_time=time(start + HOUR))
        swap = swap_pb2.Swap(schedule=schedule, user=ana.name, offered=offered, offered_to=[ben.name])
        made = await ana.own.schedules.CreateSwap(schedules.CreateSwapRequest(swap=swap))
        await ben.own.schedules.AcceptSwap(schedules.AcceptSwapRequest(name=made.swap.name))
        await tenant.passes(minutes=3)
        return any("Your shifts have changed" in each.subject for each in ben.told("", "message"))

    await until(takes_an_hour)
    # From now on he is told nothing more: what is under way is all there is.
    nothing = pb.UpdateShiftNoticeSettingsRequest(shift_notice_settings=pb.ShiftNoticeSettings(user=ben.name))
    await ben.own.shift_notices.UpdateShiftNoticeSettings(nothing)
    await world.idle()
    told = [await ben.is_told("", "message") for _ in ben.told("", "message")]
    offers = [each for each in told if each.subject == "[message] Ana offers you time on call: web"]
    changes = [each for each in told if each.subject == "[message] Your shifts have changed: web"]
    assert len(offers) == hours
    assert len(told) == len(offers) + len(changes)
    text = json.loads(changes[0].body)["message"]["text"]
    assert text.startswith("Now yours: web, ")
    assert "(a swap)" in text
    assert ana.told("", "message") == []
