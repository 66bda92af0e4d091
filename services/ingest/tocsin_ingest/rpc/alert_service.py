"""AlertService: alerts come in here, alone, in batches or on a stream."""

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import grpc
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1 import alert_service_pb2_grpc
from tocsin.ingest.v1.alert_service_pb2 import (
    GetAlertRequest,
    GetAlertResponse,
    ListAlertsRequest,
    ListAlertsResponse,
    SendAlertRequest,
    SendAlertResponse,
    SendAlertsRequest,
    SendAlertsResponse,
    SendAlertsResult,
    StreamAlertsRequest,
    StreamAlertsResponse,
)
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import not_found, to_status
from tocsin_kit.ids import parse_name, parse_uuid_name
from tocsin_kit.rpc.call import current_call
from tocsin_kit.rpc.failures import masked
from tocsin_kit.rpc.paging import PageTokens, page_size

from tocsin_ingest.app.send_alert import AlertIntake, Sender
from tocsin_ingest.rpc.mapping import STATES_BACK, alert_of
from tocsin_ingest.store import alerts

_Context = grpc.aio.ServicerContext[Any, Any]
NAME: Final = "tocsin.ingest.v1.AlertService"


class AlertService(alert_service_pb2_grpc.AlertServiceServicer):
    """See the contract. `window`: how many alerts of one stream may be unanswered."""

    def __init__(self, intake: AlertIntake, database: Database, pages: PageTokens, *, window: int) -> None:
        self._intake = intake
        self._database = database
        self._pages = pages
        self._window = window

    async def SendAlert(self, request: SendAlertRequest, context: _Context) -> SendAlertResponse:
        """One alert."""
        return await self._intake.send(Sender.of(current_call().principal), request)

    async def SendAlerts(self, request: SendAlertsRequest, context: _Context) -> SendAlertsResponse:
        """Many alerts, an answer for each."""
        sender = Sender.of(current_call().principal)
        waiting = [await self._intake.submit(sender, each) for each in request.alerts]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        results = [
            SendAlertsResult(error=_status(answer))
            if isinstance(answer, BaseException)
            else SendAlertsResult(response=answer)
            for answer in answers
        ]
        return SendAlertsResponse(results=results)

    async def StreamAlerts(
        self, request_iterator: AsyncIterator[StreamAlertsRequest], context: _Context
    ) -> AsyncIterator[StreamAlertsResponse]:
        """Alerts for as long as the stream lives; an answer leaves as soon as its alert is committed."""
        sender = Sender.of(current_call().principal)
        answers: asyncio.Queue[StreamAlertsResponse | None] = asyncio.Queue()
        room = asyncio.Semaphore(self._window)

        def answer(sequence: int, done: "asyncio.Future[SendAlertResponse]") -> None:
            error = done.exception()
            if error is None:
                answers.put_nowait(StreamAlertsResponse(sequence=sequence, response=done.result()))
            else:
                answers.put_nowait(StreamAlertsResponse(sequence=sequence, error=_status(error)))

        async def read() -> None:
            async for message in request_iterator:
                # Not read any further while too much is unanswered: gRPC's flow control then slows the sender.
                await room.acquire()
                waiting = await self._intake.submit(sender, message.request)
                waiting.add_done_callback(functools.partial(answer, message.sequence))
            # All room given back: everything is answered.
            for _ in range(self._window):
                await room.acquire()

        reader = asyncio.create_task(read())
        reader.add_done_callback(lambda _: answers.put_nowait(None))
        try:
            while (response := await answers.get()) is not None:
                room.release()
                yield response
            await reader
        finally:
            reader.cancel()
            await asyncio.wait((reader,))

    async def GetAlert(self, request: GetAlertRequest, context: _Context) -> GetAlertResponse:
        """One alert."""
        alert_id = parse_uuid_name(request.name, "alerts")
        async with self._database.transaction(current_call().org_id) as tx:
            row = await alerts.get(tx, alert_id)
        if row is None:
            raise not_found(ErrorReason.ERROR_REASON_ALERT_NOT_FOUND, request.name)
        return GetAlertResponse(alert=alert_of(row))

    async def ListAlerts(self, request: ListAlertsRequest, context: _Context) -> ListAlertsResponse:
        """A page of alerts, newest first."""
        size = page_size(request.page_size)
        position = self._pages.decode(request)
        before = position[0] if position else None
        assert before is None or isinstance(before, UUID)
        wanted = alerts.AlertFilter(
            parse_uuid_name(request.incident, "incidents", field="incident") if request.incident else None,
            parse_name(request.integration, "integrations", field="integration") if request.integration else None,
            request.dedup_key or None,
            tuple(STATES_BACK[state] for state in request.states),
        )
        async with self._database.transaction(current_call().org_id) as tx:
            rows = await alerts.page(tx, wanted, before, size + 1)
        response = ListAlertsResponse(alerts=[alert_of(row) for row in rows[:size]])
        if len(rows) > size:
            response.next_page_token = self._pages.encode(request, (rows[size - 1].id,))
        return response


def _status(error: BaseException) -> Status:
    """What a single SendAlert would have failed with."""
    if not isinstance(error, Exception):
        raise error
    return to_status(masked(error))
