"""The user on call is paged, and the timeline says why it was that user."""

from datetime import UTC, timedelta
from typing import Any

from tocsin.escalation.v1 import directory_service_pb2 as dp
from tocsin.escalation.v1 import incident_pb2 as ip
from tocsin.escalation.v1 import policy_service_pb2 as pp
from tocsin.escalation.v1 import schedule_pb2 as sp
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure
from tests.e2e.schedule_calls import now, on_call, override, time


async def test_the_user_on_call_is_paged_until_an_override_puts_another_one_there(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    began = await now(tenant)
    start = f"{began - timedelta(days=8):%Y-%m-%dT%H:%M}"
    schedule = await tenant.schedule("web", ana, ben, start=start)
    segment = await on_call(tenant, schedule)
    assert list(segment.users) == ["users/ben"]
    assert segment.sources[0].turn == 1
    sender = await tenant.integration(await tenant.policy([schedule], [cem], name="web"))
    first = await sender.triggers("the first")
    await ben.is_paged(first, level=1)
    [paged] = [entry for entry in await tenant.timeline(first) if entry.pages]
    assert paged.message.startswith("level 1: paging users/ben; schedules/web has users/ben on call until ")
    assert "turn 1 of layer week" in paged.message

    made = await override(tenant, schedule, began - timedelta(hours=1), began + timedelta(days=2), "users/ana")
    assert made.author == "users/operator"
    assert made.start_time.ToDatetime(UTC) >= began.replace(second=0, microsecond=0), "the past stays as it was"
    second = await sender.triggers("the second")
    await ana.is_paged(second, level=1)
    [paged] = [entry for entry in await tenant.timeline(second) if entry.pages]
    assert made.name in paged.message

    await tenant.admin.schedules.DeleteOverride(pb.DeleteOverrideRequest(name=made.name))
    assert list((await on_call(tenant, schedule)).users) == ["users/ben"]
    third = await sender.triggers("the third")
    await ben.is_paged(third, level=1)


async def test_a_gap_is_told_and_the_next_level_is_paged_at_once(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = await now(tenant)
    schedule = await tenant.schedule("web", ana, start=f"{began + timedelta(days=3):%Y-%m-%dT%H:%M}")
    assert (await on_call(tenant, schedule)).coverage == sp.ON_CALL_COVERAGE_GAP
    policy = await tenant.policy([schedule], [ben], name="web")
    sender = await tenant.integration(policy)
    incident = await sender.triggers("nobody is there")
    await ben.is_paged(incident, level=2)
    messages = [entry.message for entry in await tenant.timeline(incident)]
    assert any(
        "level 1 skipped: schedules/web resolves to nobody; schedules/web has a gap" in each for each in messages
    )


async def test_a_policy_may_wait_for_the_next_user_on_call_and_warns_of_the_gap_before(tenant: Tenant) -> None:
    [ana] = await tenant.people("ana")
    began = await now(tenant)
    schedule = await tenant.schedule("web", ana, start=f"{began + timedelta(days=3):%Y-%m-%dT%H:%M}")
    policy = await tenant.policy([schedule], name="web", on_gap=pp.GAP_CHOICE_HOLD)
    read = (await tenant.admin.policies.GetPolicy(pp.GetPolicyRequest(name=policy))).policy
    assert read.on_gap == pp.GAP_CHOICE_HOLD
    [warning] = [each for each in read.warnings if each.kind == pp.POLICY_WARNING_KIND_GAP]
    assert (warning.level, warning.target.schedule) == (1, schedule)
    sender = await tenant.integration(policy)
    incident = await sender.triggers("nobody is there")
    await tenant.world.idle()
    held = await tenant.timeline(incident)
    assert [entry.kind for entry in held] == [ip.TIMELINE_KIND_OPENED, ip.TIMELINE_KIND_LEVEL_HELD]
    assert held[1].message.startswith("level 1 waits for users/ana, on call from ")
    shown = await tenant.incident(incident)
    assert (shown.state, shown.level, list(shown.assignees)) == (ip.INCIDENT_STATE_TRIGGERED, 1, [])


async def test_what_is_previewed_is_what_comes_and_today_stays_as_it_is(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    began = await now(tenant)
    name = await tenant.schedule("web", ana, ben, start=f"{began - timedelta(days=1):%Y-%m-%dT%H:%M}")
    schedule = (await tenant.admin.schedules.GetSchedule(pb.GetScheduleRequest(name=name))).schedule
    schedule.layers[0].line_up.insert(0, sp.LineUpEntry(users=[cem.name]))
    span: Any = {"start_time": time(began - timedelta(days=1)), "end_time": time(began + timedelta(days=30))}
    preview = await tenant.admin.schedules.PreviewSchedule(pb.PreviewScheduleRequest(schedule=schedule, **span))
    updated = (await tenant.admin.schedules.UpdateSchedule(pb.UpdateScheduleRequest(schedule=schedule))).schedule
    resolved = await tenant.admin.schedules.ResolveSchedule(pb.ResolveScheduleRequest(name=name, **span))
    assert resolved.segments == preview.segments
    assert [list(each.users) for each in resolved.segments] == [
        [ana.name],
        [ben.name],
        [cem.name],
        [ana.name],
        [ben.name],
    ]
    assert resolved.segments[1].start_time == updated.layers[0].version_start_time


async def test_a_user_who_is_away_is_not_paged_and_the_next_of_the_line_up_steps_in(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = await now(tenant)
    name = await tenant.schedule("web", ana, ben, start=f"{began - timedelta(days=1):%Y-%m-%dT%H:%M}")
    await tenant.admin.schedules.UpdateSchedule(
        pb.UpdateScheduleRequest(schedule=sp.Schedule(name=name, stand_in=True))
    )
    away = sp.Absence(user=ana.name, start_time=time(began), end_time=time(began + timedelta(days=1)), reason="ill")
    made = (await tenant.admin.schedules.CreateAbsence(pb.CreateAbsenceRequest(absence=away))).absence
    segment = await on_call(tenant, name)
    assert (list(segment.users), list(segment.away)) == ([ben.name], [ana.name])
    sender = await tenant.integration(await tenant.policy([name], name="web"))
    incident = await sender.triggers("ana is away")
    await ben.is_paged(incident, level=1)
    [paged] = [entry for entry in await tenant.timeline(incident) if entry.pages]
    assert "stands in at turn 0 of layer week instead of users/ana; away: users/ana" in paged.message
    listed = await tenant.admin.schedules.ListAbsences(pb.ListAbsencesRequest(user=ana.name))
    assert [each.name for each in listed.absences] == [made.name]
    await tenant.admin.schedules.DeleteAbsence(pb.DeleteAbsenceRequest(name=made.name))
    assert list((await on_call(tenant, name)).users) == [ana.name]


async def test_overrides_of_a_whole_holiday_come_together_or_not_at_all(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = await now(tenant)
    await tenant.schedule("web", ana)
    await tenant.schedule("db", ana)

    def wanted(*days: float) -> list[sp.Override]:
        """Half a day each, in both schedules by turns."""
        starts = [began + timedelta(days=day) for day in days]
        return [
            sp.Override(
                schedule=f"schedules/{schedule}", start_time=time(start), end_time=time(start + timedelta(hours=12))
            )
            for start, schedule in zip(starts, ("web", "db", "web", "db"), strict=False)
        ]

    calls = tenant.admin.schedules
    for each in (several := wanted(1, 2, 3)):
        each.users.append(ben.name)
    made = (await calls.BatchCreateOverrides(pb.BatchCreateOverridesRequest(overrides=several))).overrides
    assert [(each.schedule, each.start_time, list(each.users)) for each in made] == [
        (each.schedule, each.start_time, [ben.name]) for each in several
    ]
    error = await failure(calls.BatchCreateOverrides(pb.BatchCreateOverridesRequest(overrides=wanted(4, -2))))
    assert (error.reason, *error.fields) == ("INVALID_FIELD", "overrides[1].end_time")
    strangers = wanted(4, 5)
    strangers[1].schedule = "schedules/nothing"
    error = await failure(calls.BatchCreateOverrides(pb.BatchCreateOverridesRequest(overrides=strangers)))
    assert (error.reason, *error.fields) == ("SCHEDULE_NOT_FOUND", "overrides[1].schedule")
    error = await failure(calls.BatchCreateOverrides(pb.BatchCreateOverridesRequest()))
    assert (error.reason, *error.fields) == ("INVALID_FIELD", "overrides")
    listed = (await calls.ListOverrides(pb.ListOverridesRequest(schedule="schedules/web"))).overrides
    assert [each.name for each in listed] == [made[0].name, made[2].name], "nothing of those that failed"


async def test_shifts_and_gaps_of_the_coming_weeks(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = (await now(tenant)).replace(second=0, microsecond=0)
    await tenant.schedule("a", ana, ben, start=f"{began:%Y-%m-%dT%H:%M}")
    await tenant.schedule("b", ana, start=f"{began + timedelta(days=7):%Y-%m-%dT%H:%M}")
    span: Any = {"start_time": time(began), "end_time": time(began + timedelta(days=28))}
    shifts, request = [], pb.ListShiftsRequest(user=ana.name, page_size=1, **span)
    while True:
        answer = await tenant.admin.schedules.ListShifts(request)
        shifts += [
            (each.schedule, (each.end_time.seconds - each.start_time.seconds) // 86400) for each in answer.shifts
        ]
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    assert shifts == [("schedules/a", 7), ("schedules/a", 7), ("schedules/b", 21)]
    coverage = pb.ListCoverageRequest(schedules=["schedules/a", "schedules/b"], **span)
    a, b = (await tenant.admin.schedules.ListCoverage(coverage)).coverages
    assert (a.covered_percent, len(a.gaps)) == (100, 0)
    assert b.covered_percent == 75
    assert [gap.end_time for gap in b.gaps] == [time(began + timedelta(days=7))]


async def test_for_how_much_of_the_coming_weeks_policies_reach_a_user(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = (await now(tenant)).replace(second=0, microsecond=0)
    in_a_week = time(began + timedelta(days=7))
    web = await tenant.schedule("web", ana, start=f"{began + timedelta(days=7):%Y-%m-%dT%H:%M}")
    instead: Any = {"fallback_target": {"user": ben.name}, "on_gap": pp.GAP_CHOICE_FALLBACK}
    late = await tenant.policy([web], name="late")
    caught = await tenant.policy([web], name="caught", **instead)
    handed = await tenant.policy([web], [web, ben], name="handed", next_policy=late)
    span: Any = {"start_time": time(began), "end_time": time(began + timedelta(days=28))}
    ends = {100: None, 75: in_a_week, 0: span["end_time"]}

    async def ask(**fields: Any) -> dict[str, tuple[float, dict[int, float]]]:
        """By policy the percentages of it and of its levels, a page at a time."""
        request, found = pb.ListCoverageRequest(by_policy=True, **span, **fields), {}
        while True:
            answer = await tenant.admin.schedules.ListCoverage(request)
            assert not answer.coverages
            for each in answer.policies:
                found[each.policy] = each.reached_percent, {one.level: one.covered_percent for one in each.levels}
                for level in each.levels:
                    end = ends[level.covered_percent]
                    gaps = [(gap.start_time, gap.end_time) for gap in level.gaps]
                    assert gaps == ([(span["start_time"], end)] if end else [])
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found

    everything = {caught: (100, {1: 100, 0: 100}), handed: (100, {1: 75, 2: 100}), late: (75, {1: 75})}
    assert await ask() == everything
    assert list(await ask(page_size=1)) == [caught, handed, late]
    assert await ask(policies=[late]) == {late: everything[late]}
    await tenant.admin.directory.DeleteUser(dp.DeleteUserRequest(name=ben.name))
    assert await ask() == {caught: (75, {1: 75, 0: 0}), handed: (75, {1: 75, 2: 75}), late: (75, {1: 75})}
    request = pb.ListCoverageRequest(by_policy=True, policies=[late], **span)
    [only] = (await tenant.admin.schedules.ListCoverage(request)).policies
    assert [(gap.start_time, gap.end_time) for gap in only.unreached] == [(span["start_time"], in_a_week)]


async def test_who_is_next_and_when_am_i_on(tenant: Tenant) -> None:
    ana, ben, cem = await tenant.people("ana", "ben", "cem")
    began = (await now(tenant)).replace(second=0, microsecond=0)
    web = await tenant.schedule("web", ana, ben, start=f"{began - timedelta(days=1):%Y-%m-%dT%H:%M}")
    policy = await tenant.policy([web], [web, cem], name="web", fallback_target={"user": ben.name})
    other = await tenant.policy([cem], name="other")

    async def ask(**fields: Any) -> list[tuple[str, int, str, float | None]]:
        """Policy, level, user, and in how many days they come on call."""
        request, found = pb.ListOnCallsRequest(earliest=True, **fields), []
        while True:
            answer = await tenant.admin.schedules.ListOnCalls(request)
            assert not answer.on_calls
            for each in answer.earliest:
                start = each.start_time.ToDatetime(UTC) if each.HasField("start_time") else None
                days = (start - began) / timedelta(days=1) if start else None
                found.append(
                    (each.policy.removeprefix("policies/"), each.level, each.user.removeprefix("users/"), days)
                )
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found

    everything = [
        ("other", 1, "cem", None),
        ("web", 1, "ana", -1),
        ("web", 1, "ben", 6),
        ("web", 2, "ana", -1),
        ("web", 2, "cem", None),
        ("web", 2, "ben", 6),
        ("web", 0, "ben", None),
    ]
    assert await ask() == everything
    assert await ask(page_size=1) == everything, "page by page"
    assert await ask(policies=[other]) == everything[:1]
    assert await ask(policies=[policy], schedules=[web]) == [everything[1], everything[2], everything[3], everything[5]]
    assert await ask(user=ben.name, policies=[policy]) == [everything[2], everything[5], everything[6]]
    later = time(began + timedelta(days=8))
    assert await ask(policies=[policy], schedules=[web], time=later, page_size=1) == [
        ("web", 1, "ben", 6),
        ("web", 1, "ana", 13),
        ("web", 2, "ben", 6),
        ("web", 2, "ana", 13),
    ]


async def test_people_who_cannot_be_paged_are_stood_in_for_if_the_schedule_says_so(tenant: Tenant) -> None:
    ana, ben = await tenant.people("ana", "ben")
    began = await now(tenant)
    name = await tenant.schedule("web", ana, ben, start=f"{began - timedelta(days=1):%Y-%m-%dT%H:%M}")
    await tenant.admin.directory.DeleteUser(dp.DeleteUserRequest(name=ana.name))
    gap = await on_call(tenant, name)
    assert (gap.coverage, list(gap.away)) == (sp.ON_CALL_COVERAGE_GAP, [ana.name])
    await tenant.admin.schedules.UpdateSchedule(
        pb.UpdateScheduleRequest(schedule=sp.Schedule(name=name, stand_in=True))
    )
    stood_in = await on_call(tenant, name)
    assert list(stood_in.users) == [ben.name]
    assert stood_in.sources[0].instead_of == ana.name
