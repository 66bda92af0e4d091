"""CredentialService: decode, call one use case, encode."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message
from tocsin.credentials.v1 import credential_service_pb2 as pb
from tocsin.credentials.v1 import credential_service_pb2_grpc as pb_grpc
from tocsin_kit.auth import ALL_ORGS
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.db.requests import once
from tocsin_kit.ids import new_id, parse_name, parse_uuid_name
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.call import note_before
from tocsin_kit.rpc.listing import Position, listed
from tocsin_kit.rpc.masks import apply_update_mask
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.rpc.server import current_call
from tocsin_kit.rpc.validation import validate

from tocsin_escalation.app.access import service_accounts
from tocsin_escalation.app.access.revoke_tokens import owner_of, revoke_tokens
from tocsin_escalation.rpc import credential_mapping as mapping
from tocsin_escalation.store.access import api_keys, revocations
from tocsin_escalation.store.access import service_accounts as store
from tocsin_escalation.store.access.api_keys import ApiKeyRow
from tocsin_escalation.store.access.revocations import RevocationRow
from tocsin_escalation.store.access.service_accounts import ServiceAccountRow

Context = grpc.aio.ServicerContext[Any, Any]
R = TypeVar("R", bound=Message)

_ACCOUNTS: Final = "serviceAccounts"
_log = get_logger(__name__)


class CredentialService(pb_grpc.CredentialServiceServicer):
    """Service accounts, API keys, revocations."""

    def __init__(self, db: Database, pages: PageTokens, budgets: Budgets, longest: float) -> None:
        """`longest`: seconds that a token may live."""
        self._db = db
        self._pages = pages
        self._budgets = budgets
        self._longest = longest

    async def CreateServiceAccount(
        self, request: pb.CreateServiceAccountRequest, context: Context
    ) -> pb.CreateServiceAccountResponse:
        """See the contract."""
        author = current_call().subject

        async def take(tx: Tx) -> pb.CreateServiceAccountResponse:
            await require_room(tx, "service_accounts", self._budgets)
            id = request.service_account_id or str(new_id())
            wanted = ServiceAccountRow(id, request.service_account.display_name, author)
            row = await service_accounts.create(tx, wanted)
            return pb.CreateServiceAccountResponse(service_account=mapping.account_to(row))

        return await self._once("CreateServiceAccount", request, pb.CreateServiceAccountResponse, take)

    async def GetServiceAccount(
        self, request: pb.GetServiceAccountRequest, context: Context
    ) -> pb.GetServiceAccountResponse:
        """See the contract."""
        async with self._db.transaction(current_call().org_id) as tx:
            row = await service_accounts.get(tx, parse_name(request.name, _ACCOUNTS))
        return pb.GetServiceAccountResponse(service_account=mapping.account_to(row))

    async def ListServiceAccounts(
        self, request: pb.ListServiceAccountsRequest, context: Context
    ) -> pb.ListServiceAccountsResponse:
        """See the contract."""

        async def read(after: Any, limit: int) -> Sequence[ServiceAccountRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await store.page(tx, after[0], limit)

        accounts, token = await listed(self._pages, request, ("",), read, mapping.account_to, lambda row: (row.id,))
        return pb.ListServiceAccountsResponse(service_accounts=accounts, next_page_token=token)

    async def UpdateServiceAccount(
        self, request: pb.UpdateServiceAccountRequest, context: Context
    ) -> pb.UpdateServiceAccountResponse:
        """See the contract."""
        given = request.service_account
        id = parse_name(given.name, _ACCOUNTS, field="service_account.name")

        def change(row: ServiceAccountRow) -> ServiceAccountRow:
            merged = mapping.account_to(row)
            apply_update_mask(merged, given, request.update_mask, writable=("display_name",))
            validate(merged, "service_account")
            return replace(row, display_name=merged.display_name)

        async def take(tx: Tx) -> pb.UpdateServiceAccountResponse:
            row = await service_accounts.update(tx, id, given.etag, change)
            return pb.UpdateServiceAccountResponse(service_account=mapping.account_to(row))

        return await self._once("UpdateServiceAccount", request, pb.UpdateServiceAccountResponse, take)

    async def DeleteServiceAccount(
        self, request: pb.DeleteServiceAccountRequest, context: Context
    ) -> pb.DeleteServiceAccountResponse:
        """See the contract."""
        author = current_call().subject

        async def take(tx: Tx) -> pb.DeleteServiceAccountResponse:
            row = await service_accounts.delete(tx, parse_name(request.name, _ACCOUNTS), request.etag, author)
            note_before(mapping.account_to(row))
            return pb.DeleteServiceAccountResponse()

        response = await self._once("DeleteServiceAccount", request, pb.DeleteServiceAccountResponse, take)
        _log.info("service_account_deleted", name=request.name, author=author)
        return response

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Context) -> pb.CreateApiKeyResponse:
        """See the contract."""
        call = current_call()
        wanted = mapping.key_from(request.api_key, call.subject)
        lifetime = request.lifetime.ToTimedelta() if request.HasField("lifetime") else None

        async def work(tx: Tx) -> pb.CreateApiKeyResponse:
            key = ""

            async def create() -> pb.CreateApiKeyResponse:
                nonlocal key
                await require_room(tx, "api_keys", self._budgets)
                row, key = await service_accounts.create_key(tx, wanted, lifetime, call.principal.scopes)
                return pb.CreateApiKeyResponse(api_key=mapping.key_to(row))

            response = await once(tx, "CreateApiKey", request, pb.CreateApiKeyResponse, create)
            # Set only now, so that the stored answer for repeats never contains it.
            response.key = key
            return response

        response = await self._db.run(call.org_id, work)
        _log.info("api_key_created", name=response.api_key.name, of=wanted.service_account, author=call.subject)
        return response

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Context) -> pb.ListApiKeysResponse:
        """See the contract."""
        account = request.service_account.removeprefix(f"{_ACCOUNTS}/")

        async def read(after: Any, limit: int) -> Sequence[ApiKeyRow]:
            async with self._db.transaction(current_call().org_id) as tx:
                return await api_keys.page(tx, account, after, limit)

        def place(row: ApiKeyRow) -> Position:
            return row.create_time, row.id

        keys, token = await listed(self._pages, request, None, read, mapping.key_to, place)
        return pb.ListApiKeysResponse(api_keys=keys, next_page_token=token)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Context) -> pb.RevokeApiKeyResponse:
        """See the contract."""
        author = current_call().subject

        async def take(tx: Tx) -> pb.RevokeApiKeyResponse:
            row = await service_accounts.revoke_key(tx, parse_uuid_name(request.name, "apiKeys"), author)
            return pb.RevokeApiKeyResponse(api_key=mapping.key_to(row))

        response = await self._once("RevokeApiKey", request, pb.RevokeApiKeyResponse, take)
        _log.info("api_key_revoked", name=request.name, author=author)
        return response

    async def RevokeTokens(self, request: pb.RevokeTokensRequest, context: Context) -> pb.RevokeTokensResponse:
        """See the contract."""
        call = current_call()
        owner = owner_of(call.org_id, request.org_id, of_subject=bool(request.subject))
        issued_before = request.issued_before.ToDatetime(UTC) if request.HasField("issued_before") else None
        expire = request.expire_time.ToDatetime(UTC) if request.HasField("expire_time") else None

        async def take(tx: Tx) -> pb.RevokeTokensResponse:
            if owner != ALL_ORGS:
                await require_room(tx, "revocations", self._budgets)
            blank = datetime.min.replace(tzinfo=UTC)
            wanted = RevocationRow(
                owner, new_id(), request.token_id, request.subject, blank, blank, call.subject, request.reason
            )
            row = await revoke_tokens(tx, wanted, issued_before, expire, self._longest)
            return pb.RevokeTokensResponse(token_revocation=mapping.revocation_to(row))

        response = await self._once("RevokeTokens", request, pb.RevokeTokensResponse, take)
        _log.info(
            "tokens_revoked", of_org=owner, of_subject=request.subject, token_id=request.token_id, author=call.subject
        )
        return response

    async def ListTokenRevocations(
        self, request: pb.ListTokenRevocationsRequest, context: Context
    ) -> pb.ListTokenRevocationsResponse:
        """See the contract."""
        org_id = current_call().org_id

        async def read(after: Any, limit: int) -> Sequence[RevocationRow]:
            async with self._db.system() if org_id == ALL_ORGS else self._db.transaction(org_id) as tx:
                return await revocations.page(tx, after[0], limit)

        found, token = await listed(
            self._pages, request, (None,), read, mapping.revocation_to, lambda row: (row.number,)
        )
        return pb.ListTokenRevocationsResponse(token_revocations=found, next_page_token=token)

    async def _once(
        self, method: str, request: Message, response_type: type[R], take: Callable[[Tx], Awaitable[R]]
    ) -> R:
        org_id = current_call().org_id

        async def work(tx: Tx) -> R:
            return await once(tx, method, request, response_type, lambda: take(tx))

        return await self._db.run(None if org_id == ALL_ORGS else org_id, work)
