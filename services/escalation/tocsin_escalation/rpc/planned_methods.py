"""The methods of ScheduleService about overrides, fixed periods and absences: decode, call one use case, encode."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin.escalation.v1 import schedule_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import FEW_ROWS, Position, listed, made_in_slices
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import current_call

from tocsin_escalation.app.schedules import overrides, planned
from tocsin_escalation.app.schedules.replace_periods import replace_periods
from tocsin_escalation.rpc import planned_mapping as plans
from tocsin_escalation.store.schedules import absences, fixed_periods
from tocsin_escalation.store.schedules import overrides as override_store
from tocsin_escalation.store.schedules.planned import Planned, PlannedRow

Context = grpc.aio.ServicerContext[Any, Any]
P = TypeVar("P", bound=PlannedRow)
M = TypeVar("M", bound=Message)
Listing = pb.ListOverridesRequest | pb.ListFixedPeriodsRequest | pb.ListAbsencesRequest


class PlannedMethods(pb_grpc.ScheduleServiceServicer):
    """What is planned beside the layers of schedules. A part of `ScheduleService`, which has the attributes."""

    _db: Database
    _once: ApplyOnce
    _pages: PageTokens

    async def CreateOverride(self, request: pb.CreateOverrideRequest, context: Context) -> pb.CreateOverrideResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.CreateOverrideResponse:
            wanted = replace(plans.override_from(request.override), author=current_call().principal.subject)
            return pb.CreateOverrideResponse(override=plans.override_to(await overrides.create_override(tx, wanted)))

        return await self._once("CreateOverride", request, pb.CreateOverrideResponse, take)

    async def BatchCreateOverrides(
        self, request: pb.BatchCreateOverridesRequest, context: Context
    ) -> pb.BatchCreateOverridesResponse:
        """See the contract."""

        wanted = await plans.overrides_from(request.overrides, current_call().principal.subject)

        async def take(tx: Tx) -> pb.BatchCreateOverridesResponse:
            made = await overrides.create_overrides(tx, wanted)
            return pb.BatchCreateOverridesResponse(overrides=await made_in_slices(made, plans.override_to))

        return await self._once("BatchCreateOverrides", request, pb.BatchCreateOverridesResponse, take)

    async def ListOverrides(self, request: pb.ListOverridesRequest, context: Context) -> pb.ListOverridesResponse:
        """See the contract."""
        found, token = await self._planned(
            request, override_store.TABLE, request.schedule.removeprefix("schedules/"), plans.override_to
        )
        return pb.ListOverridesResponse(overrides=found, next_page_token=token)

    async def DeleteOverride(self, request: pb.DeleteOverrideRequest, context: Context) -> pb.DeleteOverrideResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.DeleteOverrideResponse:
            id = parse_uuid_name(request.name, "overrides")
            absent = reasons.ERROR_REASON_OVERRIDE_NOT_FOUND
            row = await planned.take_back(tx, override_store.TABLE, id, request.name, absent)
            note_before(plans.override_to(row))
            return pb.DeleteOverrideResponse()

        return await self._once("DeleteOverride", request, pb.DeleteOverrideResponse, take)

    async def CreateFixedPeriod(
        self, request: pb.CreateFixedPeriodRequest, context: Context
    ) -> pb.CreateFixedPeriodResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.CreateFixedPeriodResponse:
            wanted = replace(plans.fixed_period_from(request.fixed_period), author=current_call().principal.subject)
            made = await overrides.create_fixed_period(tx, wanted)
            return pb.CreateFixedPeriodResponse(fixed_period=plans.fixed_period_to(made))

        return await self._once("CreateFixedPeriod", request, pb.CreateFixedPeriodResponse, take)

    async def BatchCreateFixedPeriods(
        self, request: pb.BatchCreateFixedPeriodsRequest, context: Context
    ) -> pb.BatchCreateFixedPeriodsResponse:
        """See the contract."""

        wanted = await plans.fixed_periods_from(request.fixed_periods, current_call().principal.subject)

        async def take(tx: Tx) -> pb.BatchCreateFixedPeriodsResponse:
            made = await overrides.create_fixed_periods(tx, wanted)
            return pb.BatchCreateFixedPeriodsResponse(fixed_periods=await made_in_slices(made, plans.fixed_period_to))

        return await self._once("BatchCreateFixedPeriods", request, pb.BatchCreateFixedPeriodsResponse, take)

    async def ReplaceFixedPeriods(
        self, request: pb.ReplaceFixedPeriodsRequest, context: Context
    ) -> pb.ReplaceFixedPeriodsResponse:
        """See the contract."""

        wanted = await plans.fixed_periods_from(request.fixed_periods, current_call().principal.subject)
        stretch = plans.stretch_from(request)

        async def take(tx: Tx) -> pb.ReplaceFixedPeriodsResponse:
            schedule = request.schedule.removeprefix("schedules/")
            done = await replace_periods(tx, schedule, *stretch, wanted)
            before = await made_in_slices(done.before, plans.fixed_period_to)
            note_before(pb.ReplaceFixedPeriodsResponse(remaining=before))
            return pb.ReplaceFixedPeriodsResponse(
                fixed_periods=await made_in_slices(done.made, plans.fixed_period_to),
                remaining=await made_in_slices(done.remaining, plans.fixed_period_to),
            )

        return await self._once("ReplaceFixedPeriods", request, pb.ReplaceFixedPeriodsResponse, take)

    async def ListFixedPeriods(
        self, request: pb.ListFixedPeriodsRequest, context: Context
    ) -> pb.ListFixedPeriodsResponse:
        """See the contract."""
        found, token = await self._planned(
            request, fixed_periods.TABLE, request.schedule.removeprefix("schedules/"), plans.fixed_period_to
        )
        return pb.ListFixedPeriodsResponse(fixed_periods=found, next_page_token=token)

    async def DeleteFixedPeriod(
        self, request: pb.DeleteFixedPeriodRequest, context: Context
    ) -> pb.DeleteFixedPeriodResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.DeleteFixedPeriodResponse:
            id = parse_uuid_name(request.name, "fixedPeriods")
            absent = reasons.ERROR_REASON_FIXED_PERIOD_NOT_FOUND
            row = await planned.take_back(tx, fixed_periods.TABLE, id, request.name, absent)
            note_before(plans.fixed_period_to(row))
            return pb.DeleteFixedPeriodResponse()

        return await self._once("DeleteFixedPeriod", request, pb.DeleteFixedPeriodResponse, take)

    async def CreateAbsence(self, request: pb.CreateAbsenceRequest, context: Context) -> pb.CreateAbsenceResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.CreateAbsenceResponse:
            wanted = replace(plans.absence_from(request.absence), author=current_call().principal.subject)
            return pb.CreateAbsenceResponse(absence=plans.absence_to(await overrides.create_absence(tx, wanted)))

        return await self._once("CreateAbsence", request, pb.CreateAbsenceResponse, take)

    async def ListAbsences(self, request: pb.ListAbsencesRequest, context: Context) -> pb.ListAbsencesResponse:
        """See the contract."""
        found, token = await self._planned(
            request, absences.TABLE, request.user.removeprefix("users/"), plans.absence_to
        )
        return pb.ListAbsencesResponse(absences=found, next_page_token=token)

    async def DeleteAbsence(self, request: pb.DeleteAbsenceRequest, context: Context) -> pb.DeleteAbsenceResponse:
        """See the contract."""

        async def take(tx: Tx) -> pb.DeleteAbsenceResponse:
            id = parse_uuid_name(request.name, "absences")
            absent = reasons.ERROR_REASON_ABSENCE_NOT_FOUND
            row = await planned.take_back(tx, absences.TABLE, id, request.name, absent)
            note_before(plans.absence_to(row))
            return pb.DeleteAbsenceResponse()

        return await self._once("DeleteAbsence", request, pb.DeleteAbsenceResponse, take)

    async def _planned(
        self, request: Listing, table: Planned[P], about: str, encode: Callable[[P], M]
    ) -> tuple[list[M], str]:
        """A page of what is planned, and the token of the next page."""

        async def read(after: Any, limit: int) -> Sequence[P]:
            return await planned.page(
                self._db, current_call().org_id, table, about, request.include_ended, after, limit
            )

        def place(row: P) -> Position:
            return row.end_time, row.id

        return await listed(self._pages, request, None, read, encode, place, portion=FEW_ROWS)
