"""Make a new key; the old ones work for a grace period longer."""

from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import RotateIntegrationKeyRequest, RotateIntegrationKeyResponse
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import not_found
from tocsin_kit.ids import parse_name

from tocsin_ingest.app.integrations.integration_keys import issue_key, lifetime_of
from tocsin_ingest.app.integrations.integration_view import integration_of
from tocsin_ingest.app.integrations.mail_addresses import address_of
from tocsin_ingest.store.integrations import integrations

METHOD: Final = "tocsin.ingest.v1.IntegrationService/RotateIntegrationKey"


async def rotate_integration_key(
    database: Database, org_id: str, request: RotateIntegrationKeyRequest, mail_domain: str
) -> RotateIntegrationKeyResponse:
    """The integration and its new key, which a repeat does not get again. Raises INTEGRATION_NOT_FOUND."""
    integration_id = parse_name(request.name, "integrations")

    async def work(tx: Tx) -> RotateIntegrationKeyResponse:
        key = ""

        async def rotate() -> RotateIntegrationKeyResponse:
            nonlocal key
            if await integrations.get(tx, integration_id, lock=True) is None:
                raise not_found(ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND, request.name)
            key = await issue_key(tx, integration_id, lifetime_of(request), request.grace.ToTimedelta())
            row = await integrations.get(tx, integration_id)
            assert row is not None
            return RotateIntegrationKeyResponse(integration=integration_of(row))

        response = await once(tx, METHOD, request, RotateIntegrationKeyResponse, rotate)
        # Set only now, so that the stored answer never contains it.
        response.key = key
        response.mail_address = address_of(key, mail_domain)
        return response

    return await database.run(org_id, work)
