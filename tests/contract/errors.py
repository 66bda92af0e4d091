"""Reading an error as any client would: status code, ErrorInfo, field violations."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status


@dataclass(frozen=True)
class Failure:
    """What a call failed with."""

    code: grpc.StatusCode
    reason: str
    fields: dict[str, str]
    message: str


async def failure(call: Awaitable[object]) -> Failure:
    """The error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # an AioRpcError has what it reads
    assert status is not None, f"{caught.value.code()} without details: {caught.value.details()}"
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info) if detail.Is(info.DESCRIPTOR) else detail.Unpack(bad)
    assert info.domain == "tocsin.dev"
    fields = {violation.field: violation.description for violation in bad.field_violations}
    return Failure(caught.value.code(), info.reason, fields, status.message)


async def refused_by_size(ask: Callable[[], Awaitable[object]]) -> grpc.StatusCode:
    """The code of a call whose message gRPC refuses by its size. `ask` begins the call.

    Asks once more when the connection reached its age within these milliseconds: gRPC then closes it without the refusal
    (docs/reference/errors.md).
    """
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask()
        if caught.value.code() is not grpc.StatusCode.UNAVAILABLE or "max_age" not in (caught.value.details() or ""):
            break
    return caught.value.code()
