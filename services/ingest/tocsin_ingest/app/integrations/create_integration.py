"""Create an integration with its first key."""

from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import CreateIntegrationRequest, CreateIntegrationResponse
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.db.requests import once
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import format_name, new_id
from tocsin_kit.secret_boxes import Boxes

from tocsin_ingest.app.alerts.signatures import stored_secret
from tocsin_ingest.app.integrations.check_integration import check_integration
from tocsin_ingest.app.integrations.integration_keys import issue_key, lifetime_of
from tocsin_ingest.app.integrations.integration_view import heartbeat_of, integration_of, quiet_of, rules_of
from tocsin_ingest.app.integrations.mail_addresses import address_of
from tocsin_ingest.app.integrations.policies import PolicyChecker
from tocsin_ingest.store.integrations import heartbeats, integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig

METHOD: Final = "tocsin.ingest.v1.IntegrationService/CreateIntegration"


async def create_integration(
    database: Database,
    policies: PolicyChecker,
    org_id: str,
    request: CreateIntegrationRequest,
    budgets: Budgets,
    mail_domain: str,
    boxes: Boxes,
) -> CreateIntegrationResponse:
    """The integration and its key, which is in this answer and nowhere else; a repeat answers without it.

    Raises INVALID_FIELD (an expression that RE2 refuses, a source range that is none), POLICY_NOT_FOUND,
    ALREADY_EXISTS, LIMIT_REACHED, SERVICE_UNAVAILABLE.
    """
    wanted = request.integration
    ranges = await check_integration(policies, org_id, wanted)
    interval = heartbeat_of(wanted)
    integration_id = request.integration_id or str(new_id())
    secret = stored_secret(boxes, org_id, integration_id, wanted)
    config = IntegrationConfig(
        wanted.display_name, wanted.default_policy, rules_of(wanted), ranges, quiet_of(wanted), secret
    )

    async def work(tx: Tx) -> CreateIntegrationResponse:
        key = ""

        async def create() -> CreateIntegrationResponse:
            nonlocal key
            await require_room(tx, "integrations", budgets)
            if not await integrations.insert(tx, integration_id, config):
                name = format_name("integrations", integration_id)
                raise TocsinError(
                    ErrorReason.ERROR_REASON_ALREADY_EXISTS, f"{name} exists already", metadata={"name": name}
                )
            if interval is not None:
                await heartbeats.expect(tx, integration_id, interval)
            key = await issue_key(tx, integration_id, lifetime_of(request))
            row = await integrations.get(tx, integration_id)
            assert row is not None
            return CreateIntegrationResponse(integration=integration_of(row))

        response = await once(tx, METHOD, request, CreateIntegrationResponse, create)
        # Set only now, so that the stored answer never contains it.
        response.key = key
        response.mail_address = address_of(key, mail_domain)
        return response

    return await database.run(org_id, work)
