"""What CredentialService answers to input that is wrong, field by field."""

import time
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.credentials.v1 import credential_service_pb2 as pb
from tocsin.type.v1 import access_pb2
from tocsin_testkit.tenant import Tenant

from tests.contract.errors import failure
from tests.contract.escalation.keys import BOT, account, bot, key, revoke

Code = grpc.StatusCode
NOW = int(time.time())


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("CreateServiceAccount", pb.CreateServiceAccountRequest(), "service_account"),
        ("CreateServiceAccount", account(request_id="x"), "request_id"),
        ("CreateServiceAccount", account(service_account_id="No Spaces"), "service_account_id"),
        ("CreateServiceAccount", account(service_account=pb.ServiceAccount()), "service_account.display_name"),
        (
            "CreateServiceAccount",
            account(service_account=pb.ServiceAccount(display_name="x" * 256)),
            "service_account.display_name",
        ),
        ("GetServiceAccount", pb.GetServiceAccountRequest(name="users/bot"), "name"),
        ("ListServiceAccounts", pb.ListServiceAccountsRequest(page_size=-1), "page_size"),
        ("UpdateServiceAccount", pb.UpdateServiceAccountRequest(), "service_account.name"),
        (
            "UpdateServiceAccount",
            pb.UpdateServiceAccountRequest(
                service_account=pb.ServiceAccount(name=BOT), update_mask=FieldMask(paths=["display_name"])
            ),
            "service_account.display_name",
        ),
        ("DeleteServiceAccount", pb.DeleteServiceAccountRequest(name="bot"), "name"),
        ("DeleteServiceAccount", pb.DeleteServiceAccountRequest(name=BOT, etag="v" * 65), "etag"),
        ("CreateApiKey", pb.CreateApiKeyRequest(), "api_key"),
        ("CreateApiKey", key(request_id="x"), "request_id"),
        ("CreateApiKey", key(lifetime=59), "lifetime"),
        ("CreateApiKey", key(lifetime=315360001), "lifetime"),
        ("CreateApiKey", key(service_account="users/bot"), "api_key.service_account"),
        ("CreateApiKey", key(display_name=""), "api_key.display_name"),
        ("CreateApiKey", key(display_name="x" * 256), "api_key.display_name"),
        ("CreateApiKey", key(role=access_pb2.ROLE_OPERATOR), "api_key.role"),
        ("CreateApiKey", key(role=99), "api_key.role"),
        ("CreateApiKey", key(scopes=[]), "api_key.scopes"),
        ("CreateApiKey", key(scopes=["internal"]), "api_key.scopes[0]"),
        ("CreateApiKey", key(scopes=["alerts:write", "queues:read"]), "api_key.scopes[1]"),
        ("CreateApiKey", key(scopes=["limits:write"]), "api_key.scopes[0]"),
        ("CreateApiKey", key(scopes=["*"]), "api_key.scopes[0]"),
        ("CreateApiKey", key(scopes=["alerts:read"] * 2), "api_key.scopes"),
        ("CreateApiKey", key(scopes=[f"a:{chr(97 + i % 26) * (i + 1)}" for i in range(51)]), "api_key.scopes"),
        ("CreateApiKey", key(source_ranges=[""]), "api_key.source_ranges[0]"),
        ("CreateApiKey", key(source_ranges=["192.0.2.0/24", "192.0.2.1/24"]), "api_key.source_ranges[1]"),
        ("CreateApiKey", key(source_ranges=["192.0.2.0/33"]), "api_key.source_ranges[0]"),
        ("CreateApiKey", key(source_ranges=["192.0.2.0/255.255.255.0/8"]), "api_key.source_ranges[0]"),
        ("CreateApiKey", key(source_ranges=["example.com"]), "api_key.source_ranges[0]"),
        ("CreateApiKey", key(source_ranges=["::ffff:192.0.2.1"]), "api_key.source_ranges[0]"),
        ("CreateApiKey", key(source_ranges=["fe80::1%eth0"]), "api_key.source_ranges[0]"),
        ("CreateApiKey", key(source_ranges=["192.0.2.0/24 "]), "api_key.source_ranges[0]"),
        ("CreateApiKey", key(source_ranges=["192.0.2.1"] * 51), "api_key.source_ranges"),
        ("ListApiKeys", pb.ListApiKeysRequest(page_size=-1), "page_size"),
        ("ListApiKeys", pb.ListApiKeysRequest(service_account="bot"), "service_account"),
        ("RevokeApiKey", pb.RevokeApiKeyRequest(name="apiKeys/1"), "name"),
        ("RevokeApiKey", pb.RevokeApiKeyRequest(name=f"apiKeys/{'-' * 36}"), "name"),
        ("RevokeTokens", revoke(), "target"),
        ("RevokeTokens", revoke(request_id="x", token_id="a"), "request_id"),
        ("RevokeTokens", revoke(token_id=""), "token_id"),
        ("RevokeTokens", revoke(token_id="x" * 256), "token_id"),
        ("RevokeTokens", revoke(token_id="a", issued_before=Timestamp(seconds=1)), "issued_before"),
        ("RevokeTokens", revoke(token_id="a", expire_time=Timestamp(seconds=1)), "expire_time"),
        ("RevokeTokens", revoke(token_id="a", expire_time=Timestamp(seconds=1 << 60)), "expire_time"),
        ("RevokeTokens", revoke(subject=""), "subject"),
        ("RevokeTokens", revoke(subject="x" * 256), "subject"),
        ("RevokeTokens", revoke(subject="services/escalation"), "subject"),
        ("RevokeTokens", revoke(subject="users/a", expire_time=Timestamp(seconds=NOW * 2)), "expire_time"),
        ("RevokeTokens", revoke(subject="users/a", issued_before=Timestamp(seconds=NOW * 2)), "issued_before"),
        ("RevokeTokens", revoke(subject="users/a", reason="x" * 256), "reason"),
        ("RevokeTokens", revoke(subject="users/a", org_id="of somebody"), "org_id"),
        ("RevokeTokens", revoke(subject="users/a", org_id="org-other"), "org_id"),
        ("RevokeTokens", revoke(token_id="a", org_id="*"), "org_id"),
        ("ListTokenRevocations", pb.ListTokenRevocationsRequest(page_size=-1), "page_size"),
    ],
)
async def test_what_cannot_be(tenant: Tenant, method: str, request_: Any, field: str) -> None:
    if method == "UpdateServiceAccount":
        await bot(tenant)
    error = await failure(getattr(tenant.admin.credentials, method)(request_))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD"), error
    assert field in error.fields
