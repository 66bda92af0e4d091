"""Within a fixed period only its shifts count, and no layer does."""

import uuid
from datetime import timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure
from tests.e2e.schedule_calls import now, override, time


async def test_within_a_fixed_period_only_its_shifts_count(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = (await now(tenant)).replace(second=0, microsecond=0)
    name = await tenant.schedule("web", ana, start=f"{began - timedelta(days=1):%Y-%m-%dT%H:%M}")
    await override(tenant, name, began, began + timedelta(days=9), ana.name)
    shift = sp.FixedShift(
        start_time=time(began + timedelta(days=2)), end_time=time(began + timedelta(days=3)), users=[ben.name]
    )
    period = sp.FixedPeriod(
        schedule=name,
        start_time=time(began + timedelta(days=2)),
        end_time=time(began + timedelta(days=4)),
        shifts=[shift],
        reason="holidays",
    )
    made = (
        await tenant.admin.schedules.CreateFixedPeriod(pb.CreateFixedPeriodRequest(fixed_period=period))
    ).fixed_period
    assert list(made.shifts) == [shift]
    span: Any = {"start_time": time(began + timedelta(days=1)), "end_time": time(began + timedelta(days=5))}
    resolved = await tenant.admin.schedules.ResolveSchedule(pb.ResolveScheduleRequest(name=name, **span))
    assert [list(each.users) for each in resolved.segments] == [[ana.name], [ben.name], [], [ana.name]]
    assert resolved.segments[1].sources[0].source == made.name
    assert resolved.segments[2].coverage == sp.ON_CALL_COVERAGE_GAP
    listed = await tenant.admin.schedules.ListFixedPeriods(pb.ListFixedPeriodsRequest(schedule=name))
    assert list(listed.fixed_periods) == [made]
    await tenant.admin.schedules.DeleteFixedPeriod(pb.DeleteFixedPeriodRequest(name=made.name))
    resolved = await tenant.admin.schedules.ResolveSchedule(pb.ResolveScheduleRequest(name=name, **span))
    assert [list(each.users) for each in resolved.segments] == [[ana.name]]


async def test_fixed_periods_of_a_whole_season_come_together_or_not_at_all(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = (await now(tenant)).replace(second=0, microsecond=0)
    web, db = await tenant.schedule("web", ana), await tenant.schedule("db", ana)

    def wanted(schedule: str, day: float, *users: str, **change: Any) -> sp.FixedPeriod:
        """A day with one shift."""
        span = {"start_time": time(began + timedelta(days=day)), "end_time": time(began + timedelta(days=day + 1))}
        return sp.FixedPeriod(schedule=schedule, **{**span, "shifts": [sp.FixedShift(users=users, **span)], **change})

    async def refused(*periods: sp.FixedPeriod) -> tuple[str, ...]:
        request = pb.BatchCreateFixedPeriodsRequest(fixed_periods=periods)
        error = await failure(tenant.admin.schedules.BatchCreateFixedPeriods(request))
        return (error.reason, *error.fields)

    calls, good = tenant.admin.schedules, wanted(web, 1, ben.name)
    request = pb.BatchCreateFixedPeriodsRequest(
        request_id=str(uuid.uuid4()), fixed_periods=[good, wanted(db, 2, ben.name), wanted(web, 3)]
    )
    made = (await calls.BatchCreateFixedPeriods(request)).fixed_periods
    assert [(each.schedule, each.start_time, each.author) for each in made] == [
        (each.schedule, each.start_time, "users/operator") for each in request.fixed_periods
    ]
    assert (await calls.BatchCreateFixedPeriods(request)).fixed_periods == made, "asked again: the same"
    span: Any = {"start_time": time(began + timedelta(days=1)), "end_time": time(began + timedelta(days=4))}
    resolved = await calls.ResolveSchedule(pb.ResolveScheduleRequest(name=web, **span))
    assert [list(each.users) for each in resolved.segments] == [[ben.name], [ana.name], []]

    late = sp.FixedShift(start_time=good.end_time, end_time=time(began + timedelta(days=9)), users=[ben.name])
    many = [
        wanted(web, 10 + number, shifts=wanted(web, 10 + number, ben.name).shifts[:1] * 150) for number in range(11)
    ]
    assert await refused() == ("INVALID_FIELD", "fixed_periods")
    assert await refused(*[good] * 101) == ("INVALID_FIELD", "fixed_periods")
    assert await refused(good, wanted(web, -2)) == ("INVALID_FIELD", "fixed_periods[1].end_time")
    assert await refused(good, wanted("schedules/nothing", 1)) == ("SCHEDULE_NOT_FOUND", "fixed_periods[1].schedule")
    assert await refused(wanted(web, 1, "users/eve")) == ("USER_NOT_FOUND", "fixed_periods[0].shifts[0].users[0]")
    assert await refused(wanted(web, 1, shifts=[late])) == ("INVALID_FIELD", "fixed_periods[0].shifts[0].start_time")
    assert (await refused(*many))[0] == "LIMIT_REACHED"
    listed = (await calls.ListFixedPeriods(pb.ListFixedPeriodsRequest(schedule=web))).fixed_periods
    assert list(listed) == [made[0], made[2]], "nothing of those that failed"


async def test_a_stretch_of_fixed_periods_is_replaced_in_one_step_or_not_at_all(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    began = (await now(tenant)).replace(second=0, microsecond=0)
    web, other = await tenant.schedule("web", ana), await tenant.schedule("other", ana)
    calls = tenant.admin.schedules

    def day(number: float) -> Timestamp:
        return time(began + timedelta(days=number))

    def wanted(first: float, last: float, user: str, schedule: str = web) -> sp.FixedPeriod:
        shift = sp.FixedShift(start_time=day(first), end_time=day(last), users=[user])
        return sp.FixedPeriod(schedule=schedule, start_time=day(first), end_time=day(last), shifts=[shift])

    async def who() -> list[tuple[str, float]]:
        span: Any = {"start_time": day(0), "end_time": day(10)}
        found = (await calls.ResolveSchedule(pb.ResolveScheduleRequest(name=web, **span))).segments
        users = [each.users[0].removeprefix("users/") for each in found]
        begins = [(each.start_time.seconds - span["start_time"].seconds) / 86400 for each in found]
        # The turns of one user are one stretch.
        return [
            (user, start) for before, user, start in zip(["", *users], users, begins, strict=False) if user != before
        ]

    periods = [wanted(1, 8, ben.name), wanted(2, 3, cem.name)]
    made = (await calls.BatchCreateFixedPeriods(pb.BatchCreateFixedPeriodsRequest(fixed_periods=periods))).fixed_periods
    assert await who() == [("ana", 0), ("ben", 1), ("cem", 2), ("ben", 3), ("ana", 8)]

    span: Any = {"schedule": web, "start_time": day(2.5), "end_time": day(5)}
    for change, reason, field in (
        ({"schedule": "schedules/nothing"}, "SCHEDULE_NOT_FOUND", "schedule"),
        ({"end_time": day(2.5)}, "INVALID_FIELD", "end_time"),
        ({"start_time": day(-3), "end_time": day(-2)}, "INVALID_FIELD", "end_time"),
        ({"start_time": Timestamp(seconds=day(2).seconds + 1)}, "INVALID_FIELD", "start_time"),
        ({"fixed_periods": [wanted(3, 4, ana.name, other)]}, "INVALID_FIELD", "fixed_periods[0].schedule"),
        (
            {"fixed_periods": [wanted(3, 4, "users/eve")]},
            "USER_NOT_FOUND",
            "fixed_periods[0].shifts[0].users[0]",
        ),
    ):
        error = await failure(calls.ReplaceFixedPeriods(pb.ReplaceFixedPeriodsRequest(**{**span, **change})))
        assert (error.reason, *error.fields) == (reason, field)
    assert (await who())[1:4] == [("ben", 1), ("cem", 2), ("ben", 3)], "nothing of those that failed"

    request = pb.ReplaceFixedPeriodsRequest(
        request_id=str(uuid.uuid4()), fixed_periods=[wanted(3, 4, cem.name)], **span
    )
    answer = await calls.ReplaceFixedPeriods(request)
    assert await calls.ReplaceFixedPeriods(request) == answer, "asked again: the same"
    assert await who() == [
        ("ana", 0),
        ("ben", 1),
        ("cem", 2),
        ("ana", 2.5),
        ("cem", 3),
        ("ana", 4),
        ("ben", 5),
        ("ana", 8),
    ]
    ends = [(each.start_time, each.end_time) for each in answer.remaining]
    assert ends == [(day(1), day(2.5)), (day(2), day(2.5)), (day(5), day(8))]
    assert {each.name for each in answer.remaining} > {each.name for each in made}
    # The rest of the older period, which was cut in two, still counts less than the newer one.
    assert (
        await calls.ReplaceFixedPeriods(pb.ReplaceFixedPeriodsRequest(**{**span, "end_time": day(9)}))
    ).remaining == []
    assert await who() == [("ana", 0), ("ben", 1), ("cem", 2), ("ana", 2.5)]
