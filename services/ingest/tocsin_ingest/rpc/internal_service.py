"""IngestInternalService: what Tocsin's own services ask of ingest."""

from collections.abc import Callable
from typing import Any, Final

import grpc
from tocsin.ingest.v1 import internal_service_pb2_grpc
from tocsin.ingest.v1.internal_service_pb2 import (
    DifferingIncident,
    ReconcileIncidentsRequest,
    ReconcileIncidentsResponse,
    ResolveIncidentsRequest,
    ResolveIncidentsResponse,
)
from tocsin_kit.db.pool import Database
from tocsin_kit.ids import format_name, parse_uuid_name
from tocsin_kit.rpc.call import current_call

from tocsin_ingest.app.incidents.reconcile import Reconciler
from tocsin_ingest.app.incidents.resolve_incidents import resolve_incidents

_Context = grpc.aio.ServicerContext[Any, Any]
_TOLD: Final = 500


class IngestInternalService(internal_service_pb2_grpc.IngestInternalServiceServicer):
    """See the contract."""

    def __init__(self, database: Database, nudge: Callable[[], None], reconciler: Reconciler) -> None:
        self._database = database
        self._nudge = nudge
        self._reconciler = reconciler

    async def ResolveIncidents(self, request: ResolveIncidentsRequest, context: _Context) -> ResolveIncidentsResponse:
        """See the contract."""
        ids = [
            parse_uuid_name(name, "incidents", field=f"incidents[{index}]")
            for index, name in enumerate(request.incidents)
        ]
        org_id = current_call().acting_for(request.org_id)
        return ResolveIncidentsResponse(
            results=await resolve_incidents(self._database, self._nudge, org_id, request.actor, ids)
        )

    async def ReconcileIncidents(
        self, request: ReconcileIncidentsRequest, context: _Context
    ) -> ReconcileIncidentsResponse:
        """See the contract."""
        current_call().require_internal()
        report = await self._reconciler.all_now(mend=not request.dry_run)
        return ReconcileIncidentsResponse(
            compared=report.compared,
            differing=len(report.found),
            incidents=[
                DifferingIncident(
                    org_id=each.org_id,
                    incident=format_name("incidents", each.id),
                    difference=each.difference,  # type: ignore[arg-type]  # the numbers are the same
                    mended=(each.org_id, each.id) in report.mended,
                )
                for each in report.found[:_TOLD]
            ],
        )
