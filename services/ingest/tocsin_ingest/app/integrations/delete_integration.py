"""Delete an integration: its keys stop working, its open incidents continue."""

from collections.abc import Callable
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import DeleteIntegrationRequest, DeleteIntegrationResponse
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import not_found
from tocsin_kit.ids import parse_name
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.masks import require_etag

from tocsin_ingest.app.integrations.integration_view import integration_of
from tocsin_ingest.store.integrations import integrations

METHOD: Final = "tocsin.ingest.v1.IntegrationService/DeleteIntegration"


async def delete_integration(
    database: Database, org_id: str, request: DeleteIntegrationRequest, changed: Callable[[str, str], None]
) -> DeleteIntegrationResponse:
    """`changed(org_id, integration_id)` is called after the commit. Raises INTEGRATION_NOT_FOUND, ETAG_MISMATCH."""
    integration_id = parse_name(request.name, "integrations")

    async def work(tx: Tx) -> DeleteIntegrationResponse:
        async def delete() -> DeleteIntegrationResponse:
            row = await integrations.get(tx, integration_id, lock=True)
            if row is None:
                raise not_found(ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND, request.name)
            require_etag(request.etag, row.version)
            await integrations.delete(tx, integration_id)
            note_before(integration_of(row))
            return DeleteIntegrationResponse()

        tx.after_commit(lambda: changed(org_id, integration_id))
        return await once(tx, METHOD, request, DeleteIntegrationResponse, delete)

    return await database.run(org_id, work)
