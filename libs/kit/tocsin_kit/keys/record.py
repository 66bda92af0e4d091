"""The store of API keys and revocations, as every service sees it: its own database, or the service that keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import grpc
from tocsin.credentials.v1 import internal_service_pb2 as pb
from tocsin.credentials.v1.internal_service_pb2_grpc import CredentialInternalServiceStub

from tocsin_kit.errors import from_rpc_error
from tocsin_kit.keys.revocations import Revocation
from tocsin_kit.rpc.client import DEFAULT_TIMEOUT
from tocsin_kit.rpc.hedge import hedged

if TYPE_CHECKING:
    # Exists in the generated types only: the same stub, with awaitable answers.
    from tocsin.credentials.v1.internal_service_pb2_grpc import CredentialInternalServiceAsyncStub

PAGE: Final = 1000
"""Revocations, hashes or uses of one call."""


@dataclass(frozen=True, slots=True)
class FoundKey:
    """An API key that works."""

    id: str
    org_id: str
    subject: str
    scopes: frozenset[str]
    source_ranges: tuple[str, ...]
    created: float
    """Epoch seconds."""
    remaining: float | None
    """Seconds that it still works; None: until it is revoked."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A revocation with its place in the record."""

    number: int
    revocation: Revocation


@dataclass(frozen=True, slots=True)
class Use:
    """An API key was used `ago` seconds ago."""

    org_id: str
    id: str
    ago: float


class KeyRecord(Protocol):
    """Each method raises SERVICE_UNAVAILABLE or DATABASE_UNAVAILABLE while the record cannot be reached."""

    async def find_keys(self, hashes: Sequence[bytes]) -> Mapping[bytes, FoundKey]:
        """Of at most `PAGE` keys, those that work."""
        ...

    async def revocations_after(self, number: int) -> tuple[Sequence[Numbered], int]:
        """At most `PAGE` revocations by number, and the number after which one may still appear."""
        ...

    async def note_uses(self, uses: Sequence[Use]) -> None:
        """At most `PAGE`."""
        ...


class RemoteKeyRecord:
    """The record, at the service that keeps it."""

    def __init__(self, channel: grpc.aio.Channel, service: str) -> None:
        self._stub: CredentialInternalServiceAsyncStub = CredentialInternalServiceStub(channel)
        self._service = service

    async def find_keys(self, hashes: Sequence[bytes]) -> Mapping[bytes, FoundKey]:
        """See `KeyRecord`."""
        try:
            request = pb.GetKeysRequest(hashes=hashes)
            response = await hedged(self._stub.GetKeys, request, seconds=DEFAULT_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=self._service) from error
        return {key.hash: _found(key) for key in response.keys}

    async def revocations_after(self, number: int) -> tuple[Sequence[Numbered], int]:
        """See `KeyRecord`."""
        try:
            request = pb.ListRevocationsRequest(after=number, limit=PAGE)
            response = await hedged(self._stub.ListRevocations, request, seconds=DEFAULT_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=self._service) from error
        return [Numbered(each.number, _revocation(each)) for each in response.revocations], response.settled

    async def note_uses(self, uses: Sequence[Use]) -> None:
        """See `KeyRecord`."""
        request = pb.NoteKeyUsesRequest()
        for use in uses:
            noted = request.uses.add(name=f"apiKeys/{use.id}", org_id=use.org_id)
            noted.ago.FromMicroseconds(round(max(0.0, use.ago) * 1e6))
        try:
            await self._stub.NoteKeyUses(request)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=self._service) from error


def _found(key: pb.WorkingKey) -> FoundKey:
    return FoundKey(
        key.name.removeprefix("apiKeys/"),
        key.org_id,
        key.subject,
        frozenset(key.scopes),
        tuple(key.source_ranges),
        key.create_time.ToMicroseconds() / 1e6,
        key.remaining.ToMicroseconds() / 1e6 if key.HasField("remaining") else None,
    )


def _revocation(message: pb.Revocation) -> Revocation:
    return Revocation(
        message.org_id,
        message.token_id,
        message.subject,
        message.issued_before.ToMicroseconds() / 1e6,
        message.expire_time.ToMicroseconds() / 1e6,
    )
