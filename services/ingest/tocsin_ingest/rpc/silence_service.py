"""SilenceService: which alerts are not to page, and for how long."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1 import silence_service_pb2_grpc
from tocsin.ingest.v1.silence_service_pb2 import (
    CreateSilenceRequest,
    CreateSilenceResponse,
    ExpireSilenceRequest,
    ExpireSilenceResponse,
    GetSilenceRequest,
    GetSilenceResponse,
    ListSilencesRequest,
    ListSilencesResponse,
    UpdateSilenceRequest,
    UpdateSilenceResponse,
)
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import not_found
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.call import current_call
from tocsin_kit.rpc.listing import FEW_ROWS, Position, listed
from tocsin_kit.rpc.paging import PageTokens

from tocsin_ingest.app.silences import silences
from tocsin_ingest.app.silences.silence_view import silence_of
from tocsin_ingest.store import silences as store
from tocsin_ingest.store.silences import SilenceRow

_Context = grpc.aio.ServicerContext[Any, Any]
_R = TypeVar("_R", bound=Message)
NAME: Final = "tocsin.ingest.v1.SilenceService"


class SilenceService(silence_service_pb2_grpc.SilenceServiceServicer):
    """See the contract. `changed(org_id)` is called after the commit of each change."""

    def __init__(self, database: Database, pages: PageTokens, budgets: Budgets, changed: Callable[[str], None]) -> None:
        self._database = database
        self._pages = pages
        self._budgets = budgets
        self._changed = changed

    async def CreateSilence(self, request: CreateSilenceRequest, context: _Context) -> CreateSilenceResponse:
        """See the contract."""
        author = current_call().principal.subject

        async def create(tx: Tx) -> CreateSilenceResponse:
            return CreateSilenceResponse(silence=await silences.create(tx, request, author, self._budgets))

        return await self._once("CreateSilence", request, CreateSilenceResponse, create)

    async def GetSilence(self, request: GetSilenceRequest, context: _Context) -> GetSilenceResponse:
        """See the contract."""
        async with self._database.transaction(current_call().org_id) as tx:
            row, now = await store.get(tx, parse_uuid_name(request.name, "silences")), await tx.now()
        if row is None:
            raise not_found(ErrorReason.ERROR_REASON_SILENCE_NOT_FOUND, request.name)
        return GetSilenceResponse(silence=silence_of(row, now))

    async def ListSilences(self, request: ListSilencesRequest, context: _Context) -> ListSilencesResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[tuple[SilenceRow, datetime]]:
            async with self._database.transaction(current_call().org_id) as tx:
                now = await tx.now()
                rows = await store.page(tx, None if request.include_ended else now, after, limit)
            return [(row, now) for row in rows]

        def place(told: tuple[SilenceRow, datetime]) -> Position:
            return told[0].end_time, told[0].id

        found, token = await listed(
            self._pages, request, None, read, lambda told: silence_of(*told), place, portion=FEW_ROWS
        )
        return ListSilencesResponse(silences=found, next_page_token=token)

    async def UpdateSilence(self, request: UpdateSilenceRequest, context: _Context) -> UpdateSilenceResponse:
        """See the contract."""

        async def update(tx: Tx) -> UpdateSilenceResponse:
            return UpdateSilenceResponse(silence=await silences.update(tx, request))

        return await self._once("UpdateSilence", request, UpdateSilenceResponse, update)

    async def ExpireSilence(self, request: ExpireSilenceRequest, context: _Context) -> ExpireSilenceResponse:
        """See the contract."""

        async def expire(tx: Tx) -> ExpireSilenceResponse:
            return ExpireSilenceResponse(silence=await silences.expire(tx, request))

        return await self._once("ExpireSilence", request, ExpireSilenceResponse, expire)

    async def _once(
        self, method: str, request: Message, response_type: type[_R], work: Callable[[Tx], Awaitable[_R]]
    ) -> _R:
        org_id = current_call().org_id

        async def transaction(tx: Tx) -> _R:
            tx.after_commit(lambda: self._changed(org_id))
            return await once(tx, f"{NAME}/{method}", request, response_type, lambda: work(tx))

        return await self._database.run(org_id, transaction)
