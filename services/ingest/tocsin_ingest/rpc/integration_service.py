"""IntegrationService: who may send alerts, and where they go."""

from collections.abc import Sequence
from typing import Any

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1 import integration_service_pb2_grpc
from tocsin.ingest.v1.integration_service_pb2 import (
    CreateIntegrationRequest,
    CreateIntegrationResponse,
    DeleteIntegrationRequest,
    DeleteIntegrationResponse,
    GetIntegrationRequest,
    GetIntegrationResponse,
    ListIntegrationsRequest,
    ListIntegrationsResponse,
    PreviewMappingRequest,
    PreviewMappingResponse,
    RotateIntegrationKeyRequest,
    RotateIntegrationKeyResponse,
    UpdateIntegrationRequest,
    UpdateIntegrationResponse,
)
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import not_found
from tocsin_kit.ids import parse_name
from tocsin_kit.rpc.call import current_call
from tocsin_kit.rpc.listing import FEW_ROWS, listed
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.secret_boxes import Boxes

from tocsin_ingest.app.integrations.create_integration import create_integration
from tocsin_ingest.app.integrations.delete_integration import delete_integration
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.integrations.heartbeats import Heartbeats
from tocsin_ingest.app.integrations.integration_view import integration_of
from tocsin_ingest.app.integrations.policies import PolicyChecker
from tocsin_ingest.app.integrations.rotate_integration_key import rotate_integration_key
from tocsin_ingest.app.integrations.update_integration import update_integration
from tocsin_ingest.rpc.preview_mapping import preview_mapping
from tocsin_ingest.store.integrations import integrations
from tocsin_ingest.store.integrations.integrations import IntegrationRow

_Context = grpc.aio.ServicerContext[Any, Any]


class IntegrationService(integration_service_pb2_grpc.IntegrationServiceServicer):
    """See the contract."""

    def __init__(
        self,
        database: Database,
        policies: PolicyChecker,
        directory: Directory,
        heartbeats: Heartbeats,
        pages: PageTokens,
        budgets: Budgets,
        mail_domain: str,
        boxes: Boxes,
    ) -> None:
        self._database = database
        self._policies = policies
        self._directory = directory
        self._heartbeats = heartbeats
        self._pages = pages
        self._budgets = budgets
        self._mail_domain = mail_domain
        self._boxes = boxes

    async def CreateIntegration(
        self, request: CreateIntegrationRequest, context: _Context
    ) -> CreateIntegrationResponse:
        """See the contract."""
        org_id = current_call().org_id
        return await create_integration(
            self._database, self._policies, org_id, request, self._budgets, self._mail_domain, self._boxes
        )

    async def GetIntegration(self, request: GetIntegrationRequest, context: _Context) -> GetIntegrationResponse:
        """See the contract."""
        async with self._database.transaction(current_call().org_id) as tx:
            row = await integrations.get(tx, parse_name(request.name, "integrations"))
        if row is None:
            raise not_found(ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND, request.name)
        return GetIntegrationResponse(integration=integration_of(row))

    async def ListIntegrations(self, request: ListIntegrationsRequest, context: _Context) -> ListIntegrationsResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[IntegrationRow]:
            async with self._database.transaction(current_call().org_id) as tx:
                return await integrations.page(tx, after[0], limit)

        found, token = await listed(
            self._pages, request, ("",), read, integration_of, lambda row: (row.integration_id,), portion=FEW_ROWS
        )
        return ListIntegrationsResponse(integrations=found, next_page_token=token)

    async def UpdateIntegration(
        self, request: UpdateIntegrationRequest, context: _Context
    ) -> UpdateIntegrationResponse:
        """See the contract."""
        org_id = current_call().org_id
        return await update_integration(
            self._database, self._policies, org_id, request, self._heartbeats, self._directory, self._boxes
        )

    async def DeleteIntegration(
        self, request: DeleteIntegrationRequest, context: _Context
    ) -> DeleteIntegrationResponse:
        """See the contract."""
        return await delete_integration(self._database, current_call().org_id, request, self._directory.changed)

    async def RotateIntegrationKey(
        self, request: RotateIntegrationKeyRequest, context: _Context
    ) -> RotateIntegrationKeyResponse:
        """See the contract."""
        return await rotate_integration_key(self._database, current_call().org_id, request, self._mail_domain)

    async def PreviewMapping(self, request: PreviewMappingRequest, context: _Context) -> PreviewMappingResponse:
        """See the contract."""
        return await preview_mapping(request)
