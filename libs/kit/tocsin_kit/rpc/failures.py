"""Converts a handler's exception into the error for its caller."""

import asyncio
import uuid
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.db.failures import translate
from tocsin_kit.errors import TocsinError, from_rpc_error
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


def known(error: BaseException) -> TocsinError | None:
    """The error of the contract that `error` is or stands for; None for a defect."""
    if isinstance(error, TocsinError):
        return error
    if isinstance(error, DecodeError):
        return TocsinError(ErrorReason.ERROR_REASON_INVALID_FIELD, "the message is not of this method's request type")
    if isinstance(error, grpc.aio.AioRpcError) and error.code() in _TRANSIENT:
        # Another service's answer to us is no answer to our caller; that the service did not help is one.
        inner = from_rpc_error(error)
        return TocsinError(
            ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
            "a service this call needs did not do its part; try again",
            metadata=inner.metadata if "service" in inner.metadata else {},
        )
    return translate(error)


def masked(error: Exception) -> TocsinError:
    """`known`, or INTERNAL with only an id, which is in the log with the traceback.

    For batches that answer item by item; single calls go through here by themselves.
    """
    answer = known(error)
    if answer is not None:
        return answer
    error_id = uuid.uuid4().hex
    _log.error("internal_error", error_id=error_id, exc_info=error)
    return TocsinError(
        ErrorReason.ERROR_REASON_INTERNAL,
        f"internal error {error_id}; the server's log has its cause",
        metadata={"error_id": error_id},
    )


def is_cancellation(error: BaseException) -> bool:
    """The caller left or its deadline passed: no answer is waited for."""
    return isinstance(error, (asyncio.CancelledError, GeneratorExit))
