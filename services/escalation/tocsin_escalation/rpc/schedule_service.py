"""ScheduleService: decode, call one use case, encode."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import grpc
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin.escalation.v1 import schedule_service_pb2_grpc as pb_grpc
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import invalid
from tocsin_kit.ids import new_id, parse_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import FEW_ROWS, filled, listed, made_in_slices
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.paging import CursorValue, PageTokens, page_size
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.validation import validate

from tocsin_escalation.app.foresight import coverage, earliest
from tocsin_escalation.app.foresight.earliest import EarliestFilter
from tocsin_escalation.app.schedules import calendar_imports, schedules
from tocsin_escalation.domain.schedules.model import Segment
from tocsin_escalation.domain.schedules.questions import shifts
from tocsin_escalation.rpc import schedule_mapping as mapping
from tocsin_escalation.rpc.planned_methods import PlannedMethods
from tocsin_escalation.rpc.swap_methods import SwapMethods
from tocsin_escalation.store.schedules import schedules as store
from tocsin_escalation.store.schedules.schedules import ScheduleRow

Context = grpc.aio.ServicerContext[Any, Any]

_Stretches = tuple[str, tuple[Segment, ...]]
"""A schedule's id, and who is on call there."""
FEW, MOST_OF_FEW = 20, 50
"""Schedules or levels at once, in lists that resolve weeks of each schedule."""
WRITABLE: Final = ("display_name", "description", "time_zone", "layers", "stand_in")


class ScheduleService(PlannedMethods, SwapMethods, pb_grpc.ScheduleServiceServicer):
    """Schedules, what is planned and swapped beside their layers, and who is on call."""

    def __init__(self, db: Database, pages: PageTokens, budgets: Budgets, stale_after: timedelta) -> None:
        """`stale_after`: how long a calendar may not be read before its schedule warns of it."""
        self._db = db
        self._once = ApplyOnce(db)
        self._pages = pages
        self._budgets = budgets
        self._stale_after = stale_after

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, context: Context) -> pb.CreateScheduleResponse:
        """See the contract."""
        await mapping.look_up_holidays(request.schedule)

        async def take(tx: Tx) -> pb.CreateScheduleResponse:
            await require_room(tx, "schedules", self._budgets)
            wanted = mapping.schedule_from(request.schedule_id or str(new_id()), request.schedule)
            return pb.CreateScheduleResponse(schedule=mapping.schedule_to(await schedules.create(tx, wanted)))

        return await self._once("CreateSchedule", request, pb.CreateScheduleResponse, take)

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        """See the contract."""
        async with self._db.transaction(current_call().org_id) as tx:
            row = await schedules.must(tx, parse_name(request.name, "schedules"))
            warnings = await calendar_imports.warnings(tx, row.id, self._stale_after)
        found = mapping.schedule_to(row)
        found.warnings.extend((*schedules.warnings(row), *warnings))
        return pb.GetScheduleResponse(schedule=found)

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Context) -> pb.ListSchedulesResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[ScheduleRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await store.page(tx, after[0], limit)

        found, token = await listed(
            self._pages, request, ("",), read, mapping.schedule_to, lambda row: (row.id,), portion=FEW_ROWS
        )
        return pb.ListSchedulesResponse(schedules=found, next_page_token=token)

    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, context: Context) -> pb.UpdateScheduleResponse:
        """See the contract."""
        id = parse_name(request.schedule.name, "schedules", field="schedule.name")
        await mapping.look_up_holidays(request.schedule)

        def change(row: ScheduleRow) -> ScheduleRow:
            merged = mapping.schedule_to(row)
            apply_update_mask(merged, request.schedule, request.update_mask, writable=WRITABLE)
            validate(merged, "schedule")
            return mapping.schedule_from(id, merged)

        async def take(tx: Tx) -> pb.UpdateScheduleResponse:
            rollout = mapping.ROLLOUTS[request.rollout]
            row = await schedules.update(tx, id, request.schedule.etag, change, rollout)
            return pb.UpdateScheduleResponse(schedule=mapping.schedule_to(row))

        return await self._once("UpdateSchedule", request, pb.UpdateScheduleResponse, take)

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: Context) -> pb.DeleteScheduleResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.DeleteScheduleResponse:
            row = await schedules.delete(tx, parse_name(request.name, "schedules"), request.etag)
            note_before(mapping.schedule_to(row))
            return pb.DeleteScheduleResponse()

        return await self._once("DeleteSchedule", request, pb.DeleteScheduleResponse, take)

    async def ResolveSchedule(self, request: pb.ResolveScheduleRequest, context: Context) -> pb.ResolveScheduleResponse:
        """See the contract."""
        id = parse_name(request.name, "schedules")
        since, until = mapping.span_of(request)
        found = await schedules.resolved(self._db, current_call().org_id, id, since, until, overflow=request.overflow)
        return pb.ResolveScheduleResponse(segments=await made_in_slices(found, mapping.segment_to))

    async def PreviewSchedule(self, request: pb.PreviewScheduleRequest, context: Context) -> pb.PreviewScheduleResponse:
        """See the contract."""
        name = request.schedule.name
        id = parse_name(name, "schedules", field="schedule.name") if name else ""
        await mapping.look_up_holidays(request.schedule)
        wanted = mapping.schedule_from(id, request.schedule)
        rollout = mapping.ROLLOUTS[request.rollout]
        found = await schedules.preview(self._db, current_call().org_id, wanted, rollout, *mapping.span_of(request))
        return pb.PreviewScheduleResponse(segments=await made_in_slices(found, mapping.segment_to))

    async def ListOnCalls(self, request: pb.ListOnCallsRequest, context: Context) -> pb.ListOnCallsResponse:
        """See the contract."""
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
        wanted = [(id, standing) for id, standing in shown if not user or user in standing.segment.people]
        return pb.ListOnCallsResponse(
            on_calls=await made_in_slices(wanted, lambda each: mapping.on_call_to(*each)),
            next_page_token=token,
        )

    async def _earliest(
        self, request: pb.ListOnCallsRequest, cursor: tuple[CursorValue, ...] | None, at: datetime | None
    ) -> pb.ListOnCallsResponse:
        asked = EarliestFilter(
            [name.removeprefix("policies/") for name in request.policies],
            [name.removeprefix("schedules/") for name in request.schedules],
            [request.user.removeprefix("users/")] if request.user else (),
        )
        after = (str(cursor[0]), int(str(cursor[1]))) if cursor else ("", 0)
        size = _few(request.page_size)
        found, following = await earliest.of_levels(self._db, current_call().org_id, asked, at, after, size)
        return pb.ListOnCallsResponse(
            earliest=await made_in_slices(
                ((level, user) for level in found for user in level.users),
                lambda each: mapping.earliest_to(each[0].policy, each[0].level, each[1]),
            ),
            next_page_token=self._pages.encode(request, following) if following else "",
        )

    async def ListShifts(self, request: pb.ListShiftsRequest, context: Context) -> pb.ListShiftsResponse:
        """See the contract."""
        found, more = await self._stretches(request, ())
        user = request.user.removeprefix("users/")

        def encode(each: _Stretches) -> list[pb.Shift]:
            id, segments = each
            return [mapping.shift_to(id, shift) for shift in shifts(segments, user)]

        told, count = await filled(found, encode)
        return pb.ListShiftsResponse(shifts=told, next_page_token=self._after(request, found, count, more))

    async def ListCoverage(self, request: pb.ListCoverageRequest, context: Context) -> pb.ListCoverageResponse:
        """See the contract."""
        if request.policies and not request.by_policy:
            raise invalid("policies", "may be set only with by_policy: without it the answer is about schedules")
        if request.schedules and request.by_policy:
            raise invalid("schedules", "may be set only without by_policy: with it the answer is about policies")
        if request.by_policy:
            return await self._policy_coverage(request)
        only = [name.removeprefix("schedules/") for name in request.schedules]
        found, more = await self._stretches(request, only)
        coverages, count = await filled(found, lambda each: [mapping.coverage_to(*each)])
        return pb.ListCoverageResponse(coverages=coverages, next_page_token=self._after(request, found, count, more))

    async def _policy_coverage(self, request: pb.ListCoverageRequest) -> pb.ListCoverageResponse:
        cursor = self._pages.decode(request)
        only = [name.removeprefix("policies/") for name in request.policies]
        after, size = str(cursor[0]) if cursor else "", _few(request.page_size)
        found, last = await coverage.of_policies(
            self._db, current_call().org_id, only, *mapping.span_of(request), after, size
        )
        told, count = await filled(found, lambda each: [mapping.policy_coverage_to(each)])
        if count < len(found):
            last = found[count - 1].policy
        return pb.ListCoverageResponse(
            policies=told, next_page_token=self._pages.encode(request, (last,)) if last else ""
        )

    async def _stretches(
        self, request: pb.ListShiftsRequest | pb.ListCoverageRequest, only: Sequence[str]
    ) -> tuple[list[_Stretches], bool]:
        """A page of schedules with who is on call in the time asked for, and whether more follow."""
        cursor = self._pages.decode(request)
        size = _few(request.page_size)
        after = str(cursor[0]) if cursor else ""
        found = await schedules.stretches(
            self._db, current_call().org_id, only, *mapping.span_of(request), after, size + 1
        )
        return found[:size], len(found) > size

    def _after(
        self,
        request: pb.ListShiftsRequest | pb.ListCoverageRequest,
        found: Sequence[_Stretches],
        count: int,
        more: bool,
    ) -> str:
        """The token of the next page behind so many of these, if there is one."""
        return self._pages.encode(request, (found[count - 1][0],)) if more or count < len(found) else ""


def _few(asked: int) -> int:
    return min(page_size(asked or FEW), MOST_OF_FEW)
