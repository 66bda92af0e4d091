"""Every RPC of every service of a running stack, called as bytes: with any credential and any message."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from tocsin.type.v1 import access_pb2
from tocsin_testkit.world import World

from tests.contract.test_protos import METHODS, READING

Metadata = Sequence[tuple[str, str | bytes]]
EVERYWHERE = ("ingest", "escalation", "notify")
_SERVERS = {
    "audit": EVERYWHERE,
    "credentials": ("escalation",),
    "limits": EVERYWHERE,
    "outbox": EVERYWHERE,
    "queue": ("escalation", "notify"),
}
_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    code: str
    reason: str = ""
    message: str = ""
    data: bytes = b""
    """The response; of a failed call the details, as they are on the wire."""

    def __str__(self) -> str:
        return f"{self.code} {self.reason}: {self.message}"


@dataclass(frozen=True)
class Rpc:
    """One method at one of the services that serve it."""

    method: MethodDescriptor
    server: str

    @property
    def scope(self) -> str:
        """What its contract asks for."""
        return self.method.GetOptions().Extensions[access_pb2.scope]

    @property
    def self_scope(self) -> str:
        """What is enough for what belongs to the credential's own subject."""
        return self.method.GetOptions().Extensions[access_pb2.self_scope]

    def lets_in(self, scopes: Collection[str]) -> bool:
        """Whether a credential with these scopes gets as far as the request."""
        return self.scope in scopes or (self.self_scope in scopes and bool(self.self_scope))

    @property
    def spans(self) -> bool:
        """Whether it is about the whole installation, and so for operators and the services alone."""
        return self.scope == "internal" or self.tenants == access_pb2.TENANTS_ALL

    @property
    def tenants(self) -> Any:
        """Whose credentials may call it."""
        return self.method.GetOptions().Extensions[access_pb2.tenants]

    def admits(self, org_id: str) -> bool:
        """Whether a credential of the tenant may call it, if it has the scope; `*` is an operator's."""
        if self.tenants == access_pb2.TENANTS_OWN_OR_ALL:
            return True
        return self.spans is (org_id == "*")

    @property
    def mutates(self) -> bool:
        """Whether it may change something."""
        return not self.method.name.startswith(READING)

    @property
    def service(self) -> str:
        """The service of the contract, at this server."""
        return f"{self.server}:{self.method.containing_service.full_name.removeprefix('tocsin.')}"

    def __str__(self) -> str:
        return f"{self.server}:{self.method.full_name.removeprefix('tocsin.')}"

    async def call(self, world: World, data: bytes, metadata: Metadata, timeout: float = 20) -> Answer:
        """The answer to one message of these bytes; a stream without bytes sends none, and must be refused."""
        channel: Any = world.channels.by_service[self.server]
        path = f"/{self.method.containing_service.full_name}/{self.method.name}"
        try:
            if self.method.server_streaming and not self.method.client_streaming:
                return Answer("OK", data=await _watched(channel.unary_stream(path), data, timeout, metadata))
            if self.method.server_streaming:
                return Answer("OK", data=await _stream(channel.stream_stream(path), data, timeout, metadata))
            unary: Any = channel.unary_unary(path)(data, timeout=timeout, metadata=metadata)
            return Answer("OK", data=await unary)
        except grpc.aio.AioRpcError as error:
            return _refusal(error)


async def _stream(open_stream: Any, data: bytes, timeout: float, metadata: Any) -> bytes:
    if not data:
        # gRPC's client tells of its own failed write instead of the status of a stream that has ended before it.
        await open_stream(timeout=timeout, metadata=metadata).read()
        return b""
    return b"".join([each async for each in open_stream([data], timeout=timeout, metadata=metadata)])


async def _watched(watch: Any, data: bytes, timeout: float, metadata: Any) -> bytes:
    """The first message: a watch has no end of its own."""
    call = watch(data, timeout=timeout, metadata=metadata)
    try:
        async for first in call:
            return bytes(first)
        return b""
    finally:
        call.cancel()


def _refusal(error: grpc.aio.AioRpcError) -> Answer:
    details = dict(error.trailing_metadata() or ()).get(_DETAILS, b"")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(details).details:
        detail.Unpack(info)
    return Answer(error.code().name, info.reason, error.details() or "", details)


def bearer(token: str) -> list[tuple[str, str]]:
    """Metadata with a token."""
    return [("authorization", f"Bearer {token}")]


RPCS = [
    Rpc(method, server)
    for method in METHODS
    for package in [method.containing_service.full_name.split(".")[1]]
    for server in _SERVERS.get(package, (package,))
]
SCOPES = frozenset(rpc.scope for rpc in RPCS)
