"""Service accounts, API keys and revocations: the contract to rows and back."""

from typing import Final

from tocsin.credentials.v1 import credential_service_pb2 as pb
from tocsin.type.v1 import access_pb2
from tocsin_kit.ids import new_id
from tocsin_kit.keys.sources import parse_ranges
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_escalation.store.access.api_keys import ApiKeyRow
from tocsin_escalation.store.access.revocations import RevocationRow
from tocsin_escalation.store.access.service_accounts import ServiceAccountRow

_ROLE: Final = "ROLE_"


def account_to(row: ServiceAccountRow) -> pb.ServiceAccount:
    """A service account for the contract."""
    return pb.ServiceAccount(
        name=f"serviceAccounts/{row.id}",
        display_name=row.display_name,
        author=row.author,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
    )


def key_from(message: pb.ApiKey, author: str) -> ApiKeyRow:
    """A key of the contract, with a new id and nothing to show of it yet. Raises INVALID_FIELD."""
    return ApiKeyRow(
        new_id(),
        message.service_account.removeprefix("serviceAccounts/"),
        "",
        message.display_name,
        access_pb2.Role.Name(message.role).removeprefix(_ROLE).lower() if message.role else "",
        tuple(message.scopes),
        tuple(map(str, parse_ranges(message.source_ranges, "api_key.source_ranges"))),
        author,
    )


def key_to(row: ApiKeyRow) -> pb.ApiKey:
    """A key for the contract."""
    return pb.ApiKey(
        name=f"apiKeys/{row.id}",
        service_account=f"serviceAccounts/{row.service_account}",
        display_name=row.display_name,
        role=access_pb2.Role.Value(_ROLE + row.role.upper()) if row.role else access_pb2.ROLE_UNSPECIFIED,
        scopes=row.scopes,
        source_ranges=row.source_ranges,
        prefix=row.prefix,
        author=row.author,
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
        last_use_time=timestamp(row.last_use_time),
        revoke_time=timestamp(row.revoke_time),
    )


def revocation_to(row: RevocationRow) -> pb.TokenRevocation:
    """A revocation for the contract."""
    message = pb.TokenRevocation(
        name=f"tokenRevocations/{row.id}",
        reason=row.reason,
        author=row.author,
        org_id=row.org_id,
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
    )
    if row.token_id:
        message.token_id = row.token_id
    else:
        message.subject = row.subject
        message.issued_before.FromDatetime(row.issued_before)
    return message
