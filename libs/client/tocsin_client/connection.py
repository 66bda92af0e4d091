"""What both clients share: addresses, credentials, channel options, and what every call is given."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

M = TypeVar("M")
Metadata = Iterable[tuple[str, str | bytes]]

Token = str | Callable[[], str]
"""A bearer token or an integration key, or a function that gives the current one. It is called for every call, so it must
be quick."""

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds of a call whose caller names no `timeout`, all attempts together. Streams have no deadline by default."""

SERVICE_CONFIG: Final = files(__package__).joinpath("service_config.json").read_text()
"""The gRPC service config of the clients: all replicas in turn, only those whose health is SERVING, and five attempts
while the answer is UNAVAILABLE. See https://github.com/grpc/grpc/blob/master/doc/service_config.md."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of the connections. The defaults trust the roots that gRPC ships."""

    ca_file: str = ""
    """PEM file with the authorities to trust."""
    cert_file: str = ""
    """PEM file with the client's certificate, for mTLS; needs `key_file`."""
    key_file: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC wants. Raises OSError when a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca_file),
            private_key=_read(self.key_file),
            certificate_chain=_read(self.cert_file),
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the services are and how they are called."""

    targets: Mapping[str, str]
    """Service name to gRPC target; empty for a service that is not used."""
    token: Token
    tls: Tls | None
    timeout: float
    service_config: str

    def target(self, service: str) -> str:
        """The address of a service. Raises ValueError when the client was made without it."""
        if target := self.targets[service]:
            return target
        raise ValueError(f"this client does not know where {service} is: give it {service}='host:port'")

    def options(self) -> list[tuple[str, Any]]:
        """Options of a channel."""
        return [
            ("grpc.service_config", self.service_config),
            ("grpc.enable_retries", 1),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.max_receive_message_length", 16 << 20),
        ]

    def metadata(self, own: Metadata | None) -> list[tuple[str, str | bytes]]:
        """The metadata of one call: the caller's own and the credential."""
        token = self.token if isinstance(self.token, str) else self.token()
        return [*(own or ()), ("authorization", f"Bearer {token}")]


def with_request_ids(request: M) -> M:
    """A copy of the request in which every empty `request_id`, of nested requests too, is a new UUID.

    A copy, because a caller who sends the same object twice means two calls. Returns the request itself when it has no
    such field.
    """
    if not isinstance(request, Message) or not _has_request_id(request.DESCRIPTOR):
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    _fill(copy)
    return copy


def request_id_of(request: object) -> str:
    """The idempotency key of a request; empty for one without."""
    return str(getattr(request, "request_id", ""))


@cache
def _has_request_id(descriptor: Descriptor) -> bool:
    """Whether the message, or one that it can hold, has the field."""
    seen, waiting = {descriptor.full_name}, [descriptor]
    while waiting:
        current = waiting.pop()
        if "request_id" in current.fields_by_name:
            return True
        for field in current.fields:
            held = field.message_type
            if held is not None and held.file.package.startswith("tocsin.") and held.full_name not in seen:
                seen.add(held.full_name)
                waiting.append(held)
    return False


def _fill(message: Message) -> None:
    if "request_id" in message.DESCRIPTOR.fields_by_name and not message.request_id:  # type: ignore[attr-defined]
        message.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
    for field, value in message.ListFields():
        if field.message_type is not None and _has_request_id(field.message_type):
            for each in value if field.is_repeated else (value,):
                _fill(each)


def _read(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()
