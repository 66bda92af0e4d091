"""Ingest, as escalation sees it."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import grpc
from tocsin.ingest.v1 import internal_service_pb2 as pb
from tocsin.ingest.v1 import internal_service_pb2_grpc as pb_grpc
from tocsin_kit.errors import from_rpc_error
from tocsin_kit.rpc.hedge import hedged

from tocsin_escalation.app.incidents.command import Closed

_RESOLVE_SECONDS: Final = 3.0


class Ingest:
    """Implements `app.incidents.command.Closing`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: pb_grpc.IngestInternalServiceAsyncStub = pb_grpc.IngestInternalServiceStub(channel)

    async def resolve(self, org_id: str, actor: str, incident_ids: Sequence[UUID]) -> list[Closed]:
        """See Closing."""
        if not incident_ids:
            return []
        names = [f"incidents/{incident_id}" for incident_id in incident_ids]
        request = pb.ResolveIncidentsRequest(org_id=org_id, actor=actor, incidents=names)
        try:
            response: pb.ResolveIncidentsResponse = await hedged(
                self._stub.ResolveIncidents, request, seconds=_RESOLVE_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="ingest") from error
        return [Closed(result.sequence if result.found else None) for result in response.results]
