"""The methods of ScheduleService about swaps of shifts: decode, call one use case, encode."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import grpc
from tocsin.escalation.v1 import schedule_service_pb2 as pb
from tocsin.escalation.v1 import schedule_service_pb2_grpc as pb_grpc
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.apply_once import ApplyOnce
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import Position, listed
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import current_call

from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.schedules import swaps
from tocsin_escalation.rpc import swap_mapping as exchange
from tocsin_escalation.store.schedules.swaps import SwapRow

Context = grpc.aio.ServicerContext[Any, Any]

_SCOPE: Final = "schedules:write"


class SwapMethods(pb_grpc.ScheduleServiceServicer):
    """Offers of shifts. A part of `ScheduleService`, which has the attributes."""

    _db: Database
    _once: ApplyOnce
    _pages: PageTokens

    async def CreateSwap(self, request: pb.CreateSwapRequest, context: Context) -> pb.CreateSwapResponse:
        """See the contract."""
        call = current_call()
        call.require_own(request.swap.user, _SCOPE)
        computations = Computations()

        async def take(tx: Tx) -> pb.CreateSwapResponse:
            row = await swaps.create(tx, exchange.swap_from(request.swap, call.subject), computations)
            return pb.CreateSwapResponse(swap=exchange.swap_to(row, await tx.now()))

        return await computations.run(
            call.org_id, lambda: self._once("CreateSwap", request, pb.CreateSwapResponse, take)
        )

    async def GetSwap(self, request: pb.GetSwapRequest, context: Context) -> pb.GetSwapResponse:
        """See the contract."""
        async with self._db.transaction(current_call().org_id) as tx:
            row, now = await swaps.must_read(tx, parse_uuid_name(request.name, swaps.COLLECTION))
        return pb.GetSwapResponse(swap=exchange.swap_to(row, now))

    async def ListSwaps(self, request: pb.ListSwapsRequest, context: Context) -> pb.ListSwapsResponse:
        """See the contract."""
        schedule, user = request.schedule.removeprefix("schedules/"), request.user.removeprefix("users/")

        async def read(after: Any, limit: int) -> Sequence[tuple[SwapRow, datetime]]:
            async with self._db.transaction(current_call().org_id) as tx:
                rows, now = await swaps.page(tx, schedule, user, request.include_closed, after, limit)
            return [(row, now) for row in rows]

        def place(told: tuple[SwapRow, datetime]) -> Position:
            return told[0].end_time, told[0].id

        found, token = await listed(self._pages, request, None, read, lambda told: exchange.swap_to(*told), place)
        return pb.ListSwapsResponse(swaps=found, next_page_token=token)

    async def AcceptSwap(self, request: pb.AcceptSwapRequest, context: Context) -> pb.AcceptSwapResponse:
        """See the contract."""
        call = current_call()
        user = exchange.user_of(request.user, call.subject)
        call.require_own(user, _SCOPE)
        computations = Computations()

        async def take(tx: Tx) -> pb.AcceptSwapResponse:
            row = await self._offered(tx, request)
            row = await swaps.accept(tx, row, user.removeprefix("users/"), call.subject, computations)
            return pb.AcceptSwapResponse(swap=exchange.swap_to(row, await tx.now()))

        return await computations.run(
            call.org_id, lambda: self._once("AcceptSwap", request, pb.AcceptSwapResponse, take)
        )

    async def DeclineSwap(self, request: pb.DeclineSwapRequest, context: Context) -> pb.DeclineSwapResponse:
        """See the contract."""
        call = current_call()
        user = exchange.user_of(request.user, call.subject)
        call.require_own(user, _SCOPE)

        async def take(tx: Tx) -> pb.DeclineSwapResponse:
            row = await swaps.decline(tx, await self._offered(tx, request), user.removeprefix("users/"))
            return pb.DeclineSwapResponse(swap=exchange.swap_to(row, await tx.now()))

        return await self._once("DeclineSwap", request, pb.DeclineSwapResponse, take)

    async def WithdrawSwap(self, request: pb.WithdrawSwapRequest, context: Context) -> pb.WithdrawSwapResponse:
        """See the contract."""

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
