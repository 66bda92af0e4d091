"""Change an integration."""

from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import Integration, UpdateIntegrationRequest, UpdateIntegrationResponse
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once
from tocsin_kit.errors import not_found
from tocsin_kit.ids import parse_name
from tocsin_kit.rpc.call import current_call, note_before
from tocsin_kit.rpc.masks import apply_paths, require_etag, update_paths
from tocsin_kit.rpc.validation import validate
from tocsin_kit.secret_boxes import Boxes

from tocsin_ingest.app.alerts.signatures import stored_secret
from tocsin_ingest.app.integrations.check_integration import check_integration
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.integrations.heartbeats import Heartbeats
from tocsin_ingest.app.integrations.integration_view import (
    WRITABLE,
    heartbeat_of,
    integration_of,
    quiet_of,
    rules_of,
)
from tocsin_ingest.app.integrations.policies import PolicyChecker
from tocsin_ingest.store.alerts.snapshot import lock_integrations
from tocsin_ingest.store.integrations import heartbeats as stored_heartbeats
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationConfig

METHOD: Final = "tocsin.ingest.v1.IntegrationService/UpdateIntegration"


async def update_integration(
    database: Database,
    policies: PolicyChecker,
    org_id: str,
    request: UpdateIntegrationRequest,
    heartbeats: Heartbeats,
    directory: Directory,
    boxes: Boxes,
) -> UpdateIntegrationResponse:
    """The integration as it is now. Alerts that come after the commit are routed by it.

    Raises INTEGRATION_NOT_FOUND, ETAG_MISMATCH, UPDATE_MASK_INVALID, INVALID_FIELD, POLICY_NOT_FOUND,
    SERVICE_UNAVAILABLE.
    """
    given = request.integration
    integration_id = parse_name(given.name, "integrations", field="integration.name")
    paths = update_paths(request.update_mask, given, writable=WRITABLE)
    # Only the fields that the caller writes are checked with escalation: a policy that was deleted since must not prevent other
    # changes.
    written = Integration(display_name="unchanged")
    apply_paths(written, given, paths)
    validate(written, "integration")
    ranges = await check_integration(policies, org_id, written)
    routing = await directory.routing(org_id, integration_id) if "heartbeat_interval" in paths else None

    async def work(tx: Tx) -> UpdateIntegrationResponse:
        async def update() -> UpdateIntegrationResponse:
            if routing is not None:
                # In this order: a transaction that decides its alerts locks it first.
                await lock_integrations(tx, {integration_id})
            row = await integrations.get(tx, integration_id, lock=True)
            if row is None:
                raise not_found(ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND, given.name)
            require_etag(given.etag, row.version, field="integration.etag")
            after = integration_of(row)
            note_before(after)
            apply_paths(after, given, paths)
            secret = stored_secret(boxes, org_id, integration_id, after, row.signature_secret)
            kept = ranges if "source_ranges" in paths else row.source_ranges
            config = IntegrationConfig(
                after.display_name, after.default_policy, rules_of(after), kept, quiet_of(after), secret
            )
            await integrations.update(tx, integration_id, config)
            if heartbeat_of(after) != row.heartbeat_interval:
                await stored_heartbeats.expect(tx, integration_id, heartbeat_of(after))
                if row.heartbeat_missing and routing is not None and not after.HasField("heartbeat_interval"):
                    await heartbeats.resolve(tx, routing, current_call().principal.subject)
            now = await integrations.get(tx, integration_id)
            assert now is not None
            return UpdateIntegrationResponse(integration=integration_of(now))

        tx.after_commit(lambda: directory.changed(org_id, integration_id))
        return await once(tx, METHOD, request, UpdateIntegrationResponse, update)

    return await database.run(org_id, work)
