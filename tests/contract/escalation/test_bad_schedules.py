"""What escalation answers to schedules and overrides that cannot be."""

import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure

Code = grpc.StatusCode
DAY = sp.Turn(unit=sp.TURN_UNIT_DAY, count=1)
HOUR = sp.Turn(unit=sp.TURN_UNIT_HOUR, count=1)
NOBODY = sp.LineUpEntry()
ALL = [sp.WEEKDAY_MONDAY]
MINUTE = sp.Window(days=ALL, start="09:00", end="09:01")


def layer(**fields: Any) -> sp.Layer:
    given = {"layer_id": "one", "turns": [DAY], "start": "2026-01-05T09:00", "line_up": [NOBODY], **fields}
    return sp.Layer(**given)


def create(*layers: sp.Layer, **fields: Any) -> pb.CreateScheduleRequest:
    schedule = sp.Schedule(**{"display_name": "S", "time_zone": "Europe/Berlin", "layers": layers, **fields})
    return pb.CreateScheduleRequest(schedule=schedule)


def window(**fields: Any) -> sp.Layer:
    return layer(windows=[sp.Window(**{"days": ALL, "start": "09:00", "end": "17:00", **fields})])


def holidays(**fields: Any) -> sp.LayerHolidays:
    return sp.LayerHolidays(**{"country": "DE", "subdivision": "BY", "rule": sp.HOLIDAY_RULE_ONLY, **fields})


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CreateScheduleRequest(), "schedule"),
        (create(display_name=""), "schedule.display_name"),
        (create(display_name="x" * 256), "schedule.display_name"),
        (create(description="x" * 1025), "schedule.description"),
        (create(time_zone=""), "schedule.time_zone"),
        (create(time_zone="Mars/Olympus"), "schedule.time_zone"),
        (create(*[layer(layer_id=f"l{n}") for n in range(11)]), "schedule.layers"),
        (create(layer(), layer()), "schedule.layers[1].layer_id"),
        (create(layer(layer_id="No Spaces")), "schedule.layers[0].layer_id"),
        (create(layer(rank=101)), "schedule.layers[0].rank"),
        (create(layer(mode=9)), "schedule.layers[0].mode"),
        (create(layer(turns=[])), "schedule.layers[0].turns"),
        (create(layer(turns=[sp.Turn(count=1)])), "schedule.layers[0].turns[0].unit"),
        (create(layer(turns=[sp.Turn(unit=sp.TURN_UNIT_DAY)])), "schedule.layers[0].turns[0].count"),
        (create(layer(turns=[sp.Turn(unit=sp.TURN_UNIT_DAY, count=366)])), "schedule.layers[0].turns[0].count"),
        (create(layer(turns=[sp.Turn(unit=sp.TURN_UNIT_MONTH, count=13)])), "schedule.layers[0].turns[0].count"),
        (create(layer(start="tomorrow")), "schedule.layers[0].start"),
        (create(layer(start="2026-02-30T09:00")), "schedule.layers[0].start"),
        (create(layer(start="2026-03-29T02:30")), "schedule.layers[0].start"),
        (create(layer(start="2026-10-25T02:30")), "schedule.layers[0].start"),
        (create(layer(time_zone="Berlin")), "schedule.layers[0].time_zone"),
        (create(layer(line_up=[])), "schedule.layers[0].line_up"),
        (create(layer(line_up=[sp.LineUpEntry(users=["ana"])])), "schedule.layers[0].line_up[0].users[0]"),
        (
            create(layer(line_up=[sp.LineUpEntry(users=[f"users/u{n}" for n in range(20)])] * 6)),
            "schedule.layers[0].line_up",
        ),
        (create(window(days=[])), "schedule.layers[0].windows[0].days"),
        (create(window(days=[0])), "schedule.layers[0].windows[0].days[0]"),
        (create(window(start="9:00")), "schedule.layers[0].windows[0].start"),
        (create(window(end="25:00")), "schedule.layers[0].windows[0].end"),
        (create(window(end_days_later=8)), "schedule.layers[0].windows[0].end_days_later"),
        (create(window(end_days_later=7)), "schedule.layers[0].windows[0]"),
        (
            create(layer(turns=[sp.Turn(unit=sp.TURN_UNIT_HOUR, count=7)], counting=sp.TURN_COUNTING_COVERED)),
            "schedule.layers[0].counting",
        ),
        (create(layer(counting=9)), "schedule.layers[0].counting"),
        (create(layer(holidays=holidays(country="de"))), "schedule.layers[0].holidays.country"),
        (create(layer(holidays=holidays(country="XX"))), "schedule.layers[0].holidays.country"),
        (create(layer(holidays=holidays(subdivision="YB"))), "schedule.layers[0].holidays.subdivision"),
        (create(layer(holidays=holidays(subdivision="x" * 33))), "schedule.layers[0].holidays.subdivision"),
        (create(layer(holidays=holidays(rule=0))), "schedule.layers[0].holidays.rule"),
        (
            create(layer(holidays=holidays(), turns=[HOUR], counting=sp.TURN_COUNTING_COVERED)),
            "schedule.layers[0].counting",
        ),
        (create(layer(concurrent=51)), "schedule.layers[0].concurrent"),
        (create(layer(effective_start_time=Timestamp(seconds=1767225601))), "schedule.layers[0].effective_start_time"),
        (
            create(
                layer(
                    effective_start_time=Timestamp(seconds=1767225660), effective_end_time=Timestamp(seconds=1767225660)
                )
            ),
            "schedule.layers[0].effective_end_time",
        ),
        (create(layer(effective_end_time=Timestamp(seconds=60))), "schedule.layers[0].effective_end_time"),
        (
            create(
                *(
                    layer(layer_id=f"l{n}", turns=[HOUR], line_up=[NOBODY] * 50, windows=[MINUTE] * 50, concurrent=50)
                    for n in range(10)
                )
            ),
            "schedule.layers",
        ),
    ],
)
async def test_a_schedule_that_cannot_be(tenant: Tenant, request_: pb.CreateScheduleRequest, field: str) -> None:
    error = await failure(tenant.admin.schedules.CreateSchedule(request_))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in error.fields


async def test_a_time_that_comes_never_or_twice_is_refused_with_both_candidates(tenant: Tenant) -> None:
    error = await failure(tenant.admin.schedules.CreateSchedule(create(layer(start="2026-03-29T02:30"))))
    assert "from 2026-03-29T01:59 to 2026-03-29T03:00" in error.fields["schedule.layers[0].start"]
    error = await failure(tenant.admin.schedules.CreateSchedule(create(layer(start="2026-10-25T02:30"))))
    assert "2026-10-25 00:30 UTC and 2026-10-25 01:30 UTC" in error.fields["schedule.layers[0].start"]


async def test_names_of_users_that_do_not_exist(tenant: Tenant) -> None:
    request = create(layer(line_up=[NOBODY, sp.LineUpEntry(users=["users/ana"])]))
    error = await failure(tenant.admin.schedules.CreateSchedule(request))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "USER_NOT_FOUND")
    assert list(error.fields) == ["schedule.layers[0].line_up[1].users[0]"]
    span: Any = {"start_time": Timestamp(seconds=1767225600), "end_time": Timestamp(seconds=1767312000)}
    calls = tenant.admin.schedules
    name = "schedules/nothing"
    for call in (
        calls.GetSchedule(pb.GetScheduleRequest(name=name)),
        calls.UpdateSchedule(pb.UpdateScheduleRequest(schedule=sp.Schedule(name=name, display_name="x"))),
        calls.DeleteSchedule(pb.DeleteScheduleRequest(name=name)),
        calls.ResolveSchedule(pb.ResolveScheduleRequest(name=name, **span)),
    ):
        error = await failure(call)
        assert (error.code, error.reason) == (Code.NOT_FOUND, "SCHEDULE_NOT_FOUND")
    error = await failure(calls.DeleteOverride(pb.DeleteOverrideRequest(name=f"overrides/{uuid.uuid4()}")))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "OVERRIDE_NOT_FOUND")


async def test_a_policy_that_names_no_schedule(tenant: Tenant) -> None:
    error = await failure(tenant.policy(["schedules/nothing"]))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "SCHEDULE_NOT_FOUND")
    assert list(error.fields) == ["policy.levels[0].targets[0]"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListOnCallsRequest(earliest=True, page_size=-1), "page_size"),
        (pb.ListOnCallsRequest(earliest=True, policies=["web"]), "policies[0]"),
        (pb.ListOnCallsRequest(earliest=True, policies=["policies/web"] * 2), "policies"),
        (pb.ListOnCallsRequest(earliest=True, policies=[f"policies/p{n}" for n in range(501)]), "policies"),
        (pb.ListOnCallsRequest(earliest=True, schedules=["web"]), "schedules[0]"),
        (pb.ListOnCallsRequest(earliest=True, user="ana"), "user"),
        (pb.ListOnCallsRequest(earliest=True, time=Timestamp(seconds=60)), "time"),
        (pb.ListOnCallsRequest(policies=["policies/web"]), "policies"),
    ],
)
async def test_who_is_next_asked_wrongly(tenant: Tenant, request_: pb.ListOnCallsRequest, field: str) -> None:
    error = await failure(tenant.admin.schedules.ListOnCalls(request_))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in error.fields


WEEK: Any = {"start_time": Timestamp(seconds=1767225600), "end_time": Timestamp(seconds=1767830400)}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"policies": ["web"]}, "policies[0]"),
        ({"policies": ["policies/web"] * 2}, "policies"),
        ({"policies": [f"policies/p{n}" for n in range(501)]}, "policies"),
        ({"schedules": ["schedules/web"]}, "schedules"),
        ({"by_policy": False, "policies": ["policies/web"]}, "policies"),
        ({"start_time": None}, "start_time"),
        ({"end_time": None}, "end_time"),
        ({"start_time": Timestamp(seconds=60)}, "start_time"),
        ({"end_time": WEEK["start_time"]}, "end_time"),
        ({"end_time": Timestamp(seconds=1767225600 + 36 * 86400)}, "end_time"),
    ],
)
async def test_how_much_policies_cover_asked_wrongly(tenant: Tenant, fields: dict[str, Any], field: str) -> None:
    request = pb.ListCoverageRequest(**{"by_policy": True, **WEEK, **fields})
    error = await failure(tenant.admin.schedules.ListCoverage(request))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in error.fields


async def test_the_place_in_a_list_is_of_that_list_only(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    await tenant.policy([ana], [ana])
    first = await tenant.admin.schedules.ListOnCalls(pb.ListOnCallsRequest(earliest=True, page_size=1))
    assert first.next_page_token
    other = pb.ListOnCallsRequest(page_token=first.next_page_token)
    assert (await failure(tenant.admin.schedules.ListOnCalls(other))).reason == "PAGE_TOKEN_INVALID"
    await tenant.policy([ana], name="other")
    coverage = await tenant.admin.schedules.ListCoverage(pb.ListCoverageRequest(by_policy=True, page_size=1, **WEEK))
    assert coverage.next_page_token
    of_schedules = pb.ListCoverageRequest(page_token=coverage.next_page_token, **WEEK)
    assert (await failure(tenant.admin.schedules.ListCoverage(of_schedules))).reason == "PAGE_TOKEN_INVALID"


async def test_stretches_and_changes_that_cannot_be(tenant: Tenant) -> None:
    calls = tenant.admin.schedules
    schedule = (await calls.CreateSchedule(create(layer()))).schedule
    at = 1767225600
    for start, end in ((at, at), (at, at - 60), (at, at + 93 * 86400)):
        span: Any = {"start_time": Timestamp(seconds=start), "end_time": Timestamp(seconds=end)}
        error = await failure(calls.ResolveSchedule(pb.ResolveScheduleRequest(name=schedule.name, **span)))
        assert list(error.fields) == ["end_time"]
        error = await failure(calls.PreviewSchedule(pb.PreviewScheduleRequest(schedule=schedule, **span)))
        assert list(error.fields) == ["end_time"]
    far: Any = {"start_time": Timestamp(seconds=-at), "end_time": Timestamp(seconds=at)}
    error = await failure(calls.ResolveSchedule(pb.ResolveScheduleRequest(name=schedule.name, **far)))
    assert list(error.fields) == ["start_time"]
    await calls.UpdateSchedule(pb.UpdateScheduleRequest(schedule=sp.Schedule(name=schedule.name, display_name="T")))
    error = await failure(calls.UpdateSchedule(pb.UpdateScheduleRequest(schedule=schedule)))
    assert (error.code, error.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    wrong = pb.UpdateScheduleRequest(
        schedule=sp.Schedule(name=schedule.name), update_mask=FieldMask(paths=["shoe_size"])
    )
    assert (await failure(calls.UpdateSchedule(wrong))).reason == "UPDATE_MASK_INVALID"
    error = await failure(
        calls.CreateSchedule(pb.CreateScheduleRequest(schedule_id=schedule.name[10:], schedule=schedule))
    )
    assert (error.code, error.reason) == (Code.ALREADY_EXISTS, "ALREADY_EXISTS")


async def test_overrides_that_cannot_be(tenant: Tenant) -> None:
    calls = tenant.admin.schedules
    schedule = (await calls.CreateSchedule(create(layer()))).schedule
    minute = schedule.create_time.seconds // 60 * 60
    good = {
        "schedule": schedule.name,
        "start_time": Timestamp(seconds=minute + 3600),
        "end_time": Timestamp(seconds=minute + 7200),
    }
    for change, reason, field in (
        ({"schedule": "nothing"}, "INVALID_FIELD", "override.schedule"),
        ({"schedule": "schedules/nothing"}, "SCHEDULE_NOT_FOUND", "override.schedule"),
        ({"start_time": None}, "INVALID_FIELD", "override.start_time"),
        ({"end_time": None}, "INVALID_FIELD", "override.end_time"),
        ({"start_time": Timestamp(seconds=minute + 1)}, "INVALID_FIELD", "override.start_time"),
        ({"end_time": Timestamp(seconds=minute + 3600)}, "INVALID_FIELD", "override.end_time"),
        ({"end_time": Timestamp(seconds=minute - 3600)}, "INVALID_FIELD", "override.end_time"),
        ({"end_time": Timestamp(seconds=minute + 500 * 86400)}, "INVALID_FIELD", "override.end_time"),
        ({"users": ["users/ana"]}, "USER_NOT_FOUND", "override.users[0]"),
        ({"user": "users/ana"}, "USER_NOT_FOUND", "override.user"),
        ({"layer_id": "two"}, "INVALID_FIELD", "override.layer_id"),
        ({"beside": True, "users": []}, "INVALID_FIELD", "override.users"),
        ({"beside": False}, "INVALID_FIELD", "override.beside"),
        ({"reason": "x" * 256}, "INVALID_FIELD", "override.reason"),
    ):
        request = pb.CreateOverrideRequest(override=sp.Override(**{**good, **change}))
        error = await failure(calls.CreateOverride(request))
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, reason), change
        assert field in error.fields, change
    made = (await calls.CreateOverride(pb.CreateOverrideRequest(override=sp.Override(**good)))).override
    listed = (await calls.ListOverrides(pb.ListOverridesRequest(schedule=schedule.name))).overrides
    assert [each.name for each in listed] == [made.name]
    await calls.DeleteOverride(pb.DeleteOverrideRequest(name=made.name))
    assert not (await calls.ListOverrides(pb.ListOverridesRequest())).overrides


async def test_fixed_periods_and_absences_that_cannot_be(tenant: Tenant) -> None:
    calls = tenant.admin.schedules
    await tenant.people("ana")
    schedule = (await calls.CreateSchedule(create(layer()))).schedule
    minute = schedule.create_time.seconds // 60 * 60
    start, end, late = (Timestamp(seconds=minute + 3600 * hours) for hours in (1, 2, 3))
    period: dict[str, Any] = {"schedule": schedule.name, "start_time": start, "end_time": end}
    for change, reason, field in (
        ({"schedule": "schedules/nothing"}, "SCHEDULE_NOT_FOUND", "schedule"),
        ({"start_time": None}, "INVALID_FIELD", "start_time"),
        ({"end_time": start}, "INVALID_FIELD", "end_time"),
        ({"end_time": Timestamp(seconds=minute - 60)}, "INVALID_FIELD", "end_time"),
        ({"shifts": [sp.FixedShift(start_time=start, end_time=start)]}, "INVALID_FIELD", "shifts[0].end_time"),
        ({"shifts": [sp.FixedShift(start_time=start, end_time=late)]}, "INVALID_FIELD", "shifts[0].start_time"),
        ({"shifts": [sp.FixedShift(start_time=start)]}, "INVALID_FIELD", "shifts[0].end_time"),
        (
            {"shifts": [sp.FixedShift(start_time=start, end_time=end, users=["users/eve"])]},
            "USER_NOT_FOUND",
            "shifts[0].users[0]",
        ),
        ({"shifts": [sp.FixedShift(start_time=start, end_time=end)] * 151}, "INVALID_FIELD", "shifts"),
        ({"reason": "x" * 256}, "INVALID_FIELD", "reason"),
    ):
        request = pb.CreateFixedPeriodRequest(fixed_period=sp.FixedPeriod(**{**period, **change}))
        error = await failure(calls.CreateFixedPeriod(request))
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, reason), change
        assert f"fixed_period.{field}" in error.fields, change
    absence: dict[str, Any] = {"user": "users/ana", "start_time": start, "end_time": end}
    for change, reason, field in (
        ({"user": "ana"}, "INVALID_FIELD", "user"),
        ({"user": "users/eve"}, "USER_NOT_FOUND", "user"),
        ({"end_time": None}, "INVALID_FIELD", "end_time"),
        ({"end_time": start}, "INVALID_FIELD", "end_time"),
        ({"end_time": Timestamp(seconds=minute + 500 * 86400)}, "INVALID_FIELD", "end_time"),
        ({"reason": "x" * 256}, "INVALID_FIELD", "reason"),
    ):
        error = await failure(calls.CreateAbsence(pb.CreateAbsenceRequest(absence=sp.Absence(**{**absence, **change}))))
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, reason), change
        assert f"absence.{field}" in error.fields, change
    nothing = uuid.uuid4()
    error = await failure(calls.DeleteFixedPeriod(pb.DeleteFixedPeriodRequest(name=f"fixedPeriods/{nothing}")))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "FIXED_PERIOD_NOT_FOUND")
    error = await failure(calls.DeleteAbsence(pb.DeleteAbsenceRequest(name=f"absences/{nothing}")))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "ABSENCE_NOT_FOUND")


async def test_a_schedule_is_read_as_it_was_written(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    written = layer(
        display_name="Nights",
        rank=3,
        mode=sp.LAYER_MODE_ADD,
        turns=[DAY, sp.Turn(unit=sp.TURN_UNIT_HOUR, count=12)],
        time_zone="Asia/Kathmandu",
        line_up=[NOBODY, sp.LineUpEntry(users=[ana.name])],
        windows=[
            sp.Window(days=[sp.WEEKDAY_MONDAY, sp.WEEKDAY_FRIDAY], start="22:00", end="06:00", end_days_later=1),
            sp.Window(days=[sp.WEEKDAY_THURSDAY], start="20:00", end="08:00", end_days_later=5),
            sp.Window(days=[sp.WEEKDAY_SUNDAY], start="00:00", end="24:00"),
        ],
        counting=sp.TURN_COUNTING_ELAPSED,
        holidays=holidays(rule=sp.HOLIDAY_RULE_NEVER),
        concurrent=2,
        effective_start_time=Timestamp(seconds=1767225600),
        effective_end_time=Timestamp(seconds=1893456000),
    )
    made = (await tenant.admin.schedules.CreateSchedule(create(written, description="d", stand_in=True))).schedule
    assert list(made.layers) == [written]
    read = (await tenant.admin.schedules.GetSchedule(pb.GetScheduleRequest(name=made.name))).schedule
    assert read == made
    [listed] = (await tenant.admin.schedules.ListSchedules(pb.ListSchedulesRequest())).schedules
    assert listed == made
