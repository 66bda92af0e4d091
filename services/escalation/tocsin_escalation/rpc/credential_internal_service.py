"""CredentialInternalService: the record of keys and revocations, for the other services."""

from datetime import timedelta
from typing import Any

import grpc
from tocsin.credentials.v1 import internal_service_pb2 as pb
from tocsin.credentials.v1 import internal_service_pb2_grpc as pb_grpc
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.keys.record import PAGE, FoundKey, Numbered, Use
from tocsin_kit.rpc.server import current_call

from tocsin_escalation.app.access.key_record import OwnKeyRecord

Context = grpc.aio.ServicerContext[Any, Any]


class CredentialInternalService(pb_grpc.CredentialInternalServiceServicer):
    """See the contract."""

    def __init__(self, record: OwnKeyRecord) -> None:
        self._record = record

    async def GetKeys(self, request: pb.GetKeysRequest, context: Context) -> pb.GetKeysResponse:
        """See the contract."""
        current_call().require_internal()
        found = await self._record.find_keys(request.hashes)
        return pb.GetKeysResponse(keys=[_key_to(digest, key) for digest, key in found.items()])

    async def ListRevocations(self, request: pb.ListRevocationsRequest, context: Context) -> pb.ListRevocationsResponse:
        """See the contract."""
        current_call().require_internal()
        page, settled = await self._record.revocations_after(request.after, request.limit or PAGE)
        return pb.ListRevocationsResponse(revocations=list(map(_revocation_to, page)), settled=settled)

    async def NoteKeyUses(self, request: pb.NoteKeyUsesRequest, context: Context) -> pb.NoteKeyUsesResponse:
        """See the contract."""
        current_call().require_internal()
        await self._record.note_uses(
            [
                Use(
                    use.org_id,
                    str(parse_uuid_name(use.name, "apiKeys", field=f"uses[{position}].name")),
                    use.ago.ToTimedelta().total_seconds(),
                )
                for position, use in enumerate(request.uses)
            ]
        )
        return pb.NoteKeyUsesResponse()


def _key_to(digest: bytes, key: FoundKey) -> pb.WorkingKey:
    message = pb.WorkingKey(
        hash=digest,
        name=f"apiKeys/{key.id}",
        org_id=key.org_id,
        subject=key.subject,
        scopes=sorted(key.scopes),
        source_ranges=key.source_ranges,
    )
    message.create_time.FromMicroseconds(round(key.created * 1e6))
    if key.remaining is not None:
        message.remaining.FromTimedelta(timedelta(seconds=key.remaining))
    return message


def _revocation_to(numbered: Numbered) -> pb.Revocation:
    revocation = numbered.revocation
    message = pb.Revocation(number=numbered.number, org_id=revocation.org_id)
    if revocation.token_id:
        message.token_id = revocation.token_id
    else:
        message.subject = revocation.subject
        message.issued_before.FromMicroseconds(round(revocation.issued_before * 1e6))
    message.expire_time.FromMicroseconds(round(revocation.expire * 1e6))
    return message
