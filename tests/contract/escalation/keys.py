"""Requests about service accounts, their keys and revocations."""

from typing import Any

from tocsin.credentials.v1 import credential_service_pb2 as pb
from tocsin_testkit.tenant import Tenant

BOT = "serviceAccounts/bot"


def key(lifetime: int | None = None, request_id: str = "", **fields: Any) -> pb.CreateApiKeyRequest:
    """A request for a key of the bot that may look at users, unless said otherwise."""
    wanted = {"service_account": BOT, "display_name": "deploys", "scopes": ["directory:read"], **fields}
    request = pb.CreateApiKeyRequest(api_key=pb.ApiKey(**wanted), request_id=request_id)
    if lifetime is not None:
        request.lifetime.FromSeconds(lifetime)
    return request


async def bot(tenant: Tenant) -> pb.ServiceAccount:
    """The tenant's service account."""
    request = pb.CreateServiceAccountRequest(
        service_account_id="bot", service_account=pb.ServiceAccount(display_name="Bot")
    )
    account: pb.ServiceAccount = (await tenant.admin.credentials.CreateServiceAccount(request)).service_account
    return account


def account(**fields: Any) -> pb.CreateServiceAccountRequest:
    return pb.CreateServiceAccountRequest(**{"service_account": pb.ServiceAccount(display_name="Bot"), **fields})


def revoke(**fields: Any) -> pb.RevokeTokensRequest:
    return pb.RevokeTokensRequest(**fields)
