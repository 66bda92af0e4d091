"""The client of Tocsin for other systems: `Client` for threads, `AioClient` for asyncio.

Both give the generated, typed stubs of every public service. Every call carries a credential and a deadline, every
mutation a `request_id`, and every failure is a `TocsinError` that says its reason.
"""

from tocsin_client.aio import AioClient
from tocsin_client.alerts import AlertResult
from tocsin_client.connection import SERVICE_CONFIG, Tls, Token
from tocsin_client.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TocsinError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    from_rpc_error,
    from_status,
)
from tocsin_client.sync import Client

__all__ = [
    "SERVICE_CONFIG",
    "Aborted",
    "AioClient",
    "AlertResult",
    "AlreadyExists",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "Tls",
    "TocsinError",
    "Token",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "from_rpc_error",
    "from_status",
]
