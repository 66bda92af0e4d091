"""AlertService: alerts come in here, alone, in batches or on a stream."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC
from typing import Any, Final

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1 import alert_service_pb2_grpc
from tocsin.ingest.v1.alert_service_pb2 import (
    ExplainAlertRequest,
    ExplainAlertResponse,
    GetAlertRequest,
    GetAlertResponse,
    ListAlertsRequest,
    ListAlertsResponse,
    SendAlertsRequest,
    SendAlertsResponse,
    SendAlertsResult,
    SendHeartbeatRequest,
    SendHeartbeatResponse,
    SimulateAlertRequest,
    SimulateAlertResponse,
    StreamAlertsRequest,
    StreamAlertsResponse,
)
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.ids import parse_name, parse_uuid_name
from tocsin_kit.rpc.call import Call, current_call, scope_missing
from tocsin_kit.rpc.closing import closing
from tocsin_kit.rpc.listing import FEW_ROWS, listed
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.raw_fields import length_delimited, takes_bytes, with_raw_field
from tocsin_kit.rpc.validation import validate

from tocsin_ingest.app.alerts.alert_request import Sender
from tocsin_ingest.app.alerts.alert_size import check_size
from tocsin_ingest.app.alerts.details import check_details
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.alerts.send_alert import AlertIntake
from tocsin_ingest.app.alerts.simulate_alert import Simulation
from tocsin_ingest.app.alerts.simulate_pages import Foreseeing, pages_of
from tocsin_ingest.app.integrations.heartbeats import Heartbeats
from tocsin_ingest.rpc.alert_stream import AlertStream
from tocsin_ingest.rpc.explain_mapping import explained_to
from tocsin_ingest.rpc.mapping import STATES_BACK, alert_of, status_of
from tocsin_ingest.rpc.simulate_mapping import simulated_to
from tocsin_ingest.store.alerts import alerts, decisions

_Context = grpc.aio.ServicerContext[Any, Any]
NAME: Final = "tocsin.ingest.v1.AlertService"
_PEOPLE_SCOPE: Final = "incidents:read"
"""The scope that a caller needs to be told who would be paged."""
_Alerts: Final[Any] = with_raw_field(SendAlertsRequest.DESCRIPTOR, "alerts")
_Results: Final[Any] = with_raw_field(SendAlertsResponse.DESCRIPTOR, "results")
_RESPONSE: Final = SendAlertsResult.DESCRIPTOR.fields_by_name["response"].number

_HEARTBEAT_METHOD: Final = f"{NAME}/SendHeartbeat"
_ACCEPTING_METHODS: Final = frozenset(
    (*(f"{NAME}/{method}" for method in ("SendAlert", "SendAlerts", "StreamAlerts")), _HEARTBEAT_METHOD)
)


def note_refused_call(times: IntakeTimes, call: Call, error: TocsinError) -> None:
    """A call was refused before it was read: its alerts were not accepted."""
    if call.method in _ACCEPTING_METHODS:
        alerts = 0 if call.method == _HEARTBEAT_METHOD else 1  # it was not read: at least one
        times.refused(call.org_id, Sender.of(call.principal).integration_id, error, alerts)


class AlertService(alert_service_pb2_grpc.AlertServiceServicer):
    """See the contract. `stream`: what takes the alerts of one stream."""

    def __init__(
        self,
        intake: AlertIntake,
        heartbeats: Heartbeats,
        simulation: Simulation,
        escalation: Foreseeing,
        database: Database,
        pages: PageTokens,
        stream: Callable[[Sender], AlertStream],
    ) -> None:
        self._intake = intake
        self._heartbeats = heartbeats
        self._simulation = simulation
        self._escalation = escalation
        self._database = database
        self._pages = pages
        self._stream = stream

    @takes_bytes
    async def SendAlert(self, request: bytes, context: _Context) -> bytes:
        """See the contract."""
        return await self._intake.send(Sender.of(current_call().principal), request)

    @takes_bytes
    async def SendAlerts(self, request: bytes, context: _Context) -> bytes:
        """See the contract."""
        batch: Any = _Alerts.FromString(request)
        validate(batch)
        answers = await self._intake.send_all(Sender.of(current_call().principal), list(batch.alerts))
        results = [
            length_delimited(_RESPONSE, answer)
            if isinstance(answer, bytes)
            else SendAlertsResult(error=status_of(answer)).SerializeToString()
            for answer in answers
        ]
        response: bytes = _Results(results=results).SerializeToString()
        return response

    async def StreamAlerts(
        self, request_iterator: AsyncIterator[StreamAlertsRequest], context: _Context
    ) -> AsyncIterator[StreamAlertsResponse]:
        """See the contract."""
        stream = self._stream(Sender.of(current_call().principal))
        async with closing(stream.answers(request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def SendHeartbeat(self, request: SendHeartbeatRequest, context: _Context) -> SendHeartbeatResponse:
        """See the contract."""
        sender = Sender.of(current_call().principal)
        integration_id = sender.integration_id
        if integration_id is None:
            integration_id = parse_name(request.integration, "integrations", field="integration")
        due, returned = await self._heartbeats.beat(sender.org_id, integration_id)
        response = SendHeartbeatResponse(returned=returned)
        response.due_time.FromDatetime(due)
        return response

    async def SimulateAlert(self, request: SimulateAlertRequest, context: _Context) -> SimulateAlertResponse:
        """See the contract."""
        check_size(request.alert)
        check_details(request.alert.details)
        integration_id = (
            parse_name(request.integration, "integrations", field="integration") if request.integration else ""
        )
        time = request.time.ToDatetime(UTC) if request.HasField("time") else None
        call = current_call()
        if request.simulate_pages:
            if _PEOPLE_SCOPE not in call.principal.scopes:
                raise scope_missing(_PEOPLE_SCOPE)
            self._simulation.pay_for_pages(call.org_id)
        simulated = await self._simulation.of(call.org_id, integration_id, call.subject, request.alert, time)
        pages = None
        if request.simulate_pages:
            pages = await pages_of(self._escalation, call.org_id, simulated, time)
        return simulated_to(simulated, pages)

    async def ExplainAlert(self, request: ExplainAlertRequest, context: _Context) -> ExplainAlertResponse:
        """See the contract."""
        alert_id = parse_uuid_name(request.name, "alerts")
        async with self._database.transaction(current_call().org_id) as tx:
            row = await alerts.get(tx, alert_id)
            decided = await decisions.read(tx, alert_id)
        if row is None:
            raise not_found(ErrorReason.ERROR_REASON_ALERT_NOT_FOUND, request.name)
        return explained_to(alert_of(row), decided)

    async def GetAlert(self, request: GetAlertRequest, context: _Context) -> GetAlertResponse:
        """See the contract."""
        alert_id = parse_uuid_name(request.name, "alerts")
        async with self._database.transaction(current_call().org_id) as tx:
            row = await alerts.get(tx, alert_id)
        if row is None:
            raise not_found(ErrorReason.ERROR_REASON_ALERT_NOT_FOUND, request.name)
        return GetAlertResponse(alert=alert_of(row))

    async def ListAlerts(self, request: ListAlertsRequest, context: _Context) -> ListAlertsResponse:
        """See the contract."""
        wanted = alerts.AlertFilter(
            parse_uuid_name(request.incident, "incidents", field="incident") if request.incident else None,
            parse_name(request.integration, "integrations", field="integration") if request.integration else None,
            request.dedup_key or None,
            tuple(STATES_BACK[state] for state in request.states),
            parse_uuid_name(request.silence, "silences", field="silence") if request.silence else None,
        )

        async def read(before: Any, limit: int) -> Sequence[alerts.AlertRow]:
            async with self._database.transaction(current_call().org_id) as tx:
                return await alerts.page(tx, wanted, before[0], limit)

        found, token = await listed(
            self._pages, request, (None,), read, alert_of, lambda row: (row.id,), portion=FEW_ROWS
        )
        return ListAlertsResponse(alerts=found, next_page_token=token)
