"""ScheduleService: decode, call one use case, encode."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import grpc
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin.escalation.v1 import schedule_service_pb2_grpc as pb_grpc
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import invalid
from tocsin_kit.ids import new_id, parse_name, parse_uuid_name
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.once import Once
from tocsin_kit.rpc.paging import CursorValue, PageTokens, page_size
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.validation import validate

from tocsin_escalation.app.foresight import coverage, earliest
from tocsin_escalation.app.foresight.earliest import Asked
from tocsin_escalation.app.schedules import calendar_imports, overrides, planned, schedules, swaps
from tocsin_escalation.app.schedules.replace_periods import replace_periods
from tocsin_escalation.domain.schedules.model import Segment
from tocsin_escalation.domain.schedules.questions import shifts
from tocsin_escalation.rpc import planned_mapping as plans
from tocsin_escalation.rpc import schedule_mapping as mapping
from tocsin_escalation.rpc import swap_mapping as exchange
from tocsin_escalation.store.schedules import absences, fixed_periods
from tocsin_escalation.store.schedules import overrides as override_store
from tocsin_escalation.store.schedules import schedules as store
from tocsin_escalation.store.schedules.planned import Planned, Stretch
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_escalation.store.schedules.swaps import SwapRow

Context = grpc.aio.ServicerContext[Any, Any]
P = TypeVar("P", bound=Stretch)
Listing = pb.ListOverridesRequest | pb.ListFixedPeriodsRequest | pb.ListAbsencesRequest

FEW, MOST_OF_FEW = 20, 50
"""Schedules or levels at once, in lists that resolve weeks of each schedule."""
_SCOPE = "schedules:write"
WRITABLE = ("display_name", "description", "time_zone", "layers", "stand_in")


class ScheduleService(pb_grpc.ScheduleServiceServicer):
    """Schedules, their overrides, and who is on call."""

    def __init__(self, db: Database, pages: PageTokens, budgets: Budgets, stale_after: timedelta) -> None:
        """`stale_after`: how long a calendar may not be read before its schedule warns of it."""
        self._db = db
        self._once = Once(db)
        self._pages = pages
        self._budgets = budgets
        self._stale_after = stale_after

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, context: Context) -> pb.CreateScheduleResponse:
        await mapping.look_up_holidays(request.schedule)

        async def take(tx: Tx) -> pb.CreateScheduleResponse:
            await require_room(tx, "schedules", self._budgets)
            wanted = mapping.schedule_from(request.schedule_id or str(new_id()), request.schedule)
            return pb.CreateScheduleResponse(schedule=mapping.schedule_to(await schedules.create(tx, wanted)))

        return await self._once("CreateSchedule", request, pb.CreateScheduleResponse, take)

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        async with self._db.transaction(current_call().org_id) as tx:
            row = await schedules.must(tx, parse_name(request.name, "schedules"))
            warnings = await calendar_imports.warnings(tx, row.id, self._stale_after)
        found = mapping.schedule_to(row)
        found.warnings.extend((*schedules.warnings(row), *warnings))
        return pb.GetScheduleResponse(schedule=found)

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Context) -> pb.ListSchedulesResponse:
        cursor = self._pages.decode(request)
        size = page_size(request.page_size)
        async with self._db.transaction(current_call().org_id) as tx:
            rows = await store.page(tx, str(cursor[0]) if cursor else "", size + 1)
        shown = rows[:size]
        token = self._pages.encode(request, (shown[-1].id,)) if len(rows) > size else ""
        return pb.ListSchedulesResponse(schedules=list(map(mapping.schedule_to, shown)), next_page_token=token)

    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, context: Context) -> pb.UpdateScheduleResponse:
        id_ = parse_name(request.schedule.name, "schedules", field="schedule.name")
        await mapping.look_up_holidays(request.schedule)

        def change(row: ScheduleRow) -> ScheduleRow:
            merged = mapping.schedule_to(row)
            apply_update_mask(merged, request.schedule, request.update_mask, writable=WRITABLE)
            validate(merged, "schedule")
            return mapping.schedule_from(id_, merged)

        async def take(tx: Tx) -> pb.UpdateScheduleResponse:
            rollout = mapping.ROLLOUTS[request.rollout]
            row = await schedules.update(tx, id_, request.schedule.etag, change, rollout)
            return pb.UpdateScheduleResponse(schedule=mapping.schedule_to(row))

        return await self._once("UpdateSchedule", request, pb.UpdateScheduleResponse, take)

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: Context) -> pb.DeleteScheduleResponse:
        async def take(tx: Tx) -> pb.DeleteScheduleResponse:
            row = await schedules.delete(tx, parse_name(request.name, "schedules"), request.etag)
            note_before(mapping.schedule_to(row))
            return pb.DeleteScheduleResponse()

        return await self._once("DeleteSchedule", request, pb.DeleteScheduleResponse, take)

    async def ResolveSchedule(self, request: pb.ResolveScheduleRequest, context: Context) -> pb.ResolveScheduleResponse:
        id_ = parse_name(request.name, "schedules")
        found = await schedules.resolved(self._db, current_call().org_id, id_, *mapping.span_of(request))
        return pb.ResolveScheduleResponse(segments=mapping.segments_to(found))

    async def PreviewSchedule(self, request: pb.PreviewScheduleRequest, context: Context) -> pb.PreviewScheduleResponse:
        name = request.schedule.name
        id_ = parse_name(name, "schedules", field="schedule.name") if name else ""
        await mapping.look_up_holidays(request.schedule)
        wanted = mapping.schedule_from(id_, request.schedule)
        rollout = mapping.ROLLOUTS[request.rollout]
        found = await schedules.preview(self._db, current_call().org_id, wanted, rollout, *mapping.span_of(request))
        return pb.PreviewScheduleResponse(segments=mapping.segments_to(found))

    async def ListOnCalls(self, request: pb.ListOnCallsRequest, context: Context) -> pb.ListOnCallsResponse:
        if request.policies and not request.earliest:
            raise invalid("policies", "may be set only with earliest: without it the answer is about schedules")
        cursor = self._pages.decode(request)
        at = mapping.instant(request.time, "time") if request.HasField("time") else None
        if request.earliest:
            return await self._earliest(request, cursor, at)
        size = page_size(request.page_size)
        only = [name.removeprefix("schedules/") for name in request.schedules]
        after = str(cursor[0]) if cursor else ""
        found = await schedules.on_calls(self._db, current_call().org_id, only, at, after, size + 1)
        shown, user = found[:size], request.user.removeprefix("users/")
        token = self._pages.encode(request, (shown[-1][0],)) if len(found) > size else ""
        return pb.ListOnCallsResponse(
            on_calls=[
                mapping.on_call_to(id_, standing)
                for id_, standing in shown
                if not user or user in standing.segment.people
            ],
            next_page_token=token,
        )

    async def _earliest(
        self, request: pb.ListOnCallsRequest, cursor: tuple[CursorValue, ...] | None, at: datetime | None
    ) -> pb.ListOnCallsResponse:
        asked = Asked(
            [name.removeprefix("policies/") for name in request.policies],
            [name.removeprefix("schedules/") for name in request.schedules],
            [request.user.removeprefix("users/")] if request.user else (),
        )
        after = (str(cursor[0]), int(str(cursor[1]))) if cursor else ("", 0)
        size = _few(request.page_size)
        found, following = await earliest.of_levels(self._db, current_call().org_id, asked, at, after, size)
        return pb.ListOnCallsResponse(
            earliest=[mapping.earliest_to(level.policy, level.level, user) for level in found for user in level.users],
            next_page_token=self._pages.encode(request, following) if following else "",
        )

    async def ListShifts(self, request: pb.ListShiftsRequest, context: Context) -> pb.ListShiftsResponse:
        found, token = await self._stretches(request, ())
        user = request.user.removeprefix("users/")
        return pb.ListShiftsResponse(
            shifts=[mapping.shift_to(id_, shift) for id_, segments in found for shift in shifts(segments, user)],
            next_page_token=token,
        )

    async def ListCoverage(self, request: pb.ListCoverageRequest, context: Context) -> pb.ListCoverageResponse:
        if request.policies and not request.by_policy:
            raise invalid("policies", "may be set only with by_policy: without it the answer is about schedules")
        if request.schedules and request.by_policy:
            raise invalid("schedules", "may be set only without by_policy: with it the answer is about policies")
        if request.by_policy:
            return await self._policy_coverage(request)
        only = [name.removeprefix("schedules/") for name in request.schedules]
        found, token = await self._stretches(request, only)
        coverages = [mapping.coverage_to(id_, segments) for id_, segments in found]
        return pb.ListCoverageResponse(coverages=coverages, next_page_token=token)

    async def _policy_coverage(self, request: pb.ListCoverageRequest) -> pb.ListCoverageResponse:
        cursor = self._pages.decode(request)
        only = [name.removeprefix("policies/") for name in request.policies]
        after, size = str(cursor[0]) if cursor else "", _few(request.page_size)
        found, last = await coverage.of_policies(
            self._db, current_call().org_id, only, *mapping.span_of(request), after, size
        )
        return pb.ListCoverageResponse(
            policies=map(mapping.policy_coverage_to, found),
            next_page_token=self._pages.encode(request, (last,)) if last else "",
        )

    async def _stretches(
        self, request: pb.ListShiftsRequest | pb.ListCoverageRequest, only: Sequence[str]
    ) -> tuple[list[tuple[str, tuple[Segment, ...]]], str]:
        """A page of schedules with who is on call in the time asked for, and the token of the next page."""
        cursor = self._pages.decode(request)
        size = _few(request.page_size)
        after = str(cursor[0]) if cursor else ""
        found = await schedules.stretches(
            self._db, current_call().org_id, only, *mapping.span_of(request), after, size + 1
        )
        shown = found[:size]
        return shown, self._pages.encode(request, (shown[-1][0],)) if len(found) > size else ""

    async def CreateOverride(self, request: pb.CreateOverrideRequest, context: Context) -> pb.CreateOverrideResponse:
        async def take(tx: Tx) -> pb.CreateOverrideResponse:
            wanted = replace(plans.override_from(request.override), author=current_call().principal.subject)
            return pb.CreateOverrideResponse(override=plans.override_to(await overrides.create_override(tx, wanted)))

        return await self._once("CreateOverride", request, pb.CreateOverrideResponse, take)

    async def BatchCreateOverrides(
        self, request: pb.BatchCreateOverridesRequest, context: Context
    ) -> pb.BatchCreateOverridesResponse:
        async def take(tx: Tx) -> pb.BatchCreateOverridesResponse:
            wanted = plans.overrides_from(request.overrides, current_call().principal.subject)
            made = await overrides.create_overrides(tx, wanted)
            return pb.BatchCreateOverridesResponse(overrides=map(plans.override_to, made))

        return await self._once("BatchCreateOverrides", request, pb.BatchCreateOverridesResponse, take)

    async def ListOverrides(self, request: pb.ListOverridesRequest, context: Context) -> pb.ListOverridesResponse:
        rows, token = await self._planned(request, override_store.TABLE, request.schedule.removeprefix("schedules/"))
        return pb.ListOverridesResponse(overrides=list(map(plans.override_to, rows)), next_page_token=token)

    async def DeleteOverride(self, request: pb.DeleteOverrideRequest, context: Context) -> pb.DeleteOverrideResponse:
        async def take(tx: Tx) -> pb.DeleteOverrideResponse:
            id_ = parse_uuid_name(request.name, "overrides")
            absent = reasons.ERROR_REASON_OVERRIDE_NOT_FOUND
            row = await planned.take_back(tx, override_store.TABLE, id_, request.name, absent)
            note_before(plans.override_to(row))
            return pb.DeleteOverrideResponse()

        return await self._once("DeleteOverride", request, pb.DeleteOverrideResponse, take)

    async def CreateFixedPeriod(
        self, request: pb.CreateFixedPeriodRequest, context: Context
    ) -> pb.CreateFixedPeriodResponse:
        async def take(tx: Tx) -> pb.CreateFixedPeriodResponse:
            wanted = replace(plans.fixed_period_from(request.fixed_period), author=current_call().principal.subject)
            made = await overrides.create_fixed_period(tx, wanted)
            return pb.CreateFixedPeriodResponse(fixed_period=plans.fixed_period_to(made))

        return await self._once("CreateFixedPeriod", request, pb.CreateFixedPeriodResponse, take)

    async def BatchCreateFixedPeriods(
        self, request: pb.BatchCreateFixedPeriodsRequest, context: Context
    ) -> pb.BatchCreateFixedPeriodsResponse:
        async def take(tx: Tx) -> pb.BatchCreateFixedPeriodsResponse:
            wanted = plans.fixed_periods_from(request.fixed_periods, current_call().principal.subject)
            made = await overrides.create_fixed_periods(tx, wanted)
            return pb.BatchCreateFixedPeriodsResponse(fixed_periods=map(plans.fixed_period_to, made))

        return await self._once("BatchCreateFixedPeriods", request, pb.BatchCreateFixedPeriodsResponse, take)

    async def ReplaceFixedPeriods(
        self, request: pb.ReplaceFixedPeriodsRequest, context: Context
    ) -> pb.ReplaceFixedPeriodsResponse:
        async def take(tx: Tx) -> pb.ReplaceFixedPeriodsResponse:
            wanted = plans.fixed_periods_from(request.fixed_periods, current_call().principal.subject)
            schedule = request.schedule.removeprefix("schedules/")
            done = await replace_periods(tx, schedule, *plans.stretch_from(request), wanted)
            note_before(pb.ReplaceFixedPeriodsResponse(remaining=map(plans.fixed_period_to, done.before)))
            return pb.ReplaceFixedPeriodsResponse(
                fixed_periods=map(plans.fixed_period_to, done.made),
                remaining=map(plans.fixed_period_to, done.remaining),
            )

        return await self._once("ReplaceFixedPeriods", request, pb.ReplaceFixedPeriodsResponse, take)

    async def ListFixedPeriods(
        self, request: pb.ListFixedPeriodsRequest, context: Context
    ) -> pb.ListFixedPeriodsResponse:
        rows, token = await self._planned(request, fixed_periods.TABLE, request.schedule.removeprefix("schedules/"))
        return pb.ListFixedPeriodsResponse(fixed_periods=map(plans.fixed_period_to, rows), next_page_token=token)

    async def DeleteFixedPeriod(
        self, request: pb.DeleteFixedPeriodRequest, context: Context
    ) -> pb.DeleteFixedPeriodResponse:
        async def take(tx: Tx) -> pb.DeleteFixedPeriodResponse:
            id_ = parse_uuid_name(request.name, "fixedPeriods")
            absent = reasons.ERROR_REASON_FIXED_PERIOD_NOT_FOUND
            row = await planned.take_back(tx, fixed_periods.TABLE, id_, request.name, absent)
            note_before(plans.fixed_period_to(row))
            return pb.DeleteFixedPeriodResponse()

        return await self._once("DeleteFixedPeriod", request, pb.DeleteFixedPeriodResponse, take)

    async def CreateAbsence(self, request: pb.CreateAbsenceRequest, context: Context) -> pb.CreateAbsenceResponse:
        async def take(tx: Tx) -> pb.CreateAbsenceResponse:
            wanted = replace(plans.absence_from(request.absence), author=current_call().principal.subject)
            return pb.CreateAbsenceResponse(absence=plans.absence_to(await overrides.create_absence(tx, wanted)))

        return await self._once("CreateAbsence", request, pb.CreateAbsenceResponse, take)

    async def ListAbsences(self, request: pb.ListAbsencesRequest, context: Context) -> pb.ListAbsencesResponse:
        rows, token = await self._planned(request, absences.TABLE, request.user.removeprefix("users/"))
        return pb.ListAbsencesResponse(absences=list(map(plans.absence_to, rows)), next_page_token=token)

    async def DeleteAbsence(self, request: pb.DeleteAbsenceRequest, context: Context) -> pb.DeleteAbsenceResponse:
        async def take(tx: Tx) -> pb.DeleteAbsenceResponse:
            id_ = parse_uuid_name(request.name, "absences")
            absent = reasons.ERROR_REASON_ABSENCE_NOT_FOUND
            row = await planned.take_back(tx, absences.TABLE, id_, request.name, absent)
            note_before(plans.absence_to(row))
            return pb.DeleteAbsenceResponse()

        return await self._once("DeleteAbsence", request, pb.DeleteAbsenceResponse, take)

    async def CreateSwap(self, request: pb.CreateSwapRequest, context: Context) -> pb.CreateSwapResponse:
        call = current_call()
        call.require_own(request.swap.user, _SCOPE)

        async def take(tx: Tx) -> pb.CreateSwapResponse:
            row = await swaps.create(tx, exchange.swap_from(request.swap, call.subject))
            return pb.CreateSwapResponse(swap=exchange.swap_to(row, await tx.now()))

        return await self._once("CreateSwap", request, pb.CreateSwapResponse, take)

    async def GetSwap(self, request: pb.GetSwapRequest, context: Context) -> pb.GetSwapResponse:
        async with self._db.transaction(current_call().org_id) as tx:
            row, now = await swaps.must_read(tx, parse_uuid_name(request.name, swaps.COLLECTION))
        return pb.GetSwapResponse(swap=exchange.swap_to(row, now))

    async def ListSwaps(self, request: pb.ListSwapsRequest, context: Context) -> pb.ListSwapsResponse:
        after: Any = self._pages.decode(request)
        size = page_size(request.page_size)
        schedule, user = request.schedule.removeprefix("schedules/"), request.user.removeprefix("users/")
        async with self._db.transaction(current_call().org_id) as tx:
            rows, now = await swaps.page(tx, schedule, user, request.include_closed, after, size + 1)
        shown = rows[:size]
        token = self._pages.encode(request, (shown[-1].end_time, shown[-1].id)) if len(rows) > size else ""
        return pb.ListSwapsResponse(swaps=[exchange.swap_to(row, now) for row in shown], next_page_token=token)

    async def AcceptSwap(self, request: pb.AcceptSwapRequest, context: Context) -> pb.AcceptSwapResponse:
        call = current_call()
        user = exchange.user_of(request.user, call.subject)
        call.require_own(user, _SCOPE)

        async def take(tx: Tx) -> pb.AcceptSwapResponse:
            row = await self._offered(tx, request)
            row = await swaps.accept(tx, row, user.removeprefix("users/"), call.subject)
            return pb.AcceptSwapResponse(swap=exchange.swap_to(row, await tx.now()))

        return await self._once("AcceptSwap", request, pb.AcceptSwapResponse, take)

    async def DeclineSwap(self, request: pb.DeclineSwapRequest, context: Context) -> pb.DeclineSwapResponse:
        call = current_call()
        user = exchange.user_of(request.user, call.subject)
        call.require_own(user, _SCOPE)

        async def take(tx: Tx) -> pb.DeclineSwapResponse:
            row = await swaps.decline(tx, await self._offered(tx, request), user.removeprefix("users/"))
            return pb.DeclineSwapResponse(swap=exchange.swap_to(row, await tx.now()))

        return await self._once("DeclineSwap", request, pb.DeclineSwapResponse, take)

    async def WithdrawSwap(self, request: pb.WithdrawSwapRequest, context: Context) -> pb.WithdrawSwapResponse:
        async def take(tx: Tx) -> pb.WithdrawSwapResponse:
            row = await self._offered(tx, request)
            current_call().require_own(f"users/{row.user_id}", _SCOPE)
            return pb.WithdrawSwapResponse(swap=exchange.swap_to(await swaps.withdraw(tx, row), await tx.now()))

        return await self._once("WithdrawSwap", request, pb.WithdrawSwapResponse, take)

    async def _offered(
        self, tx: Tx, request: pb.AcceptSwapRequest | pb.DeclineSwapRequest | pb.WithdrawSwapRequest
    ) -> SwapRow:
        """The swap that is about to change."""
        row = await swaps.must_be_offered(tx, parse_uuid_name(request.name, swaps.COLLECTION), request.etag)
        note_before(exchange.swap_to(row, await tx.now()))
        return row

    async def _planned(self, request: Listing, table: Planned[P], about: str) -> tuple[list[P], str]:
        """A page of what is planned, and the token of the next page."""
        cursor = self._pages.decode(request)
        size = page_size(request.page_size)
        ended = request.include_ended
        rows = await planned.page(self._db, current_call().org_id, table, about, ended, cursor, size + 1)
        shown = rows[:size]
        return shown, self._pages.encode(request, (shown[-1].end_time, shown[-1].id)) if len(rows) > size else ""


def _few(asked: int) -> int:
    return min(page_size(asked or FEW), MOST_OF_FEW)
