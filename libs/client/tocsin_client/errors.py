"""Failures as exceptions: one class for each gRPC status code, with what `google.rpc.Status` says beside the code.

Every error of Tocsin carries one `ErrorInfo` whose reason is a value of `tocsin.errors.v1.ErrorReason`; the comments of
that enum explain each. Details follow https://google.aip.dev/193.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

_DETAILS: Final = "grpc-status-details-bin"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class FieldViolation(NamedTuple):
    """One rule that one field of the request breaks."""

    field: str
    """The path of the field, such as `policy.levels[0].timeout`."""
    description: str
    """The rule, and what to do."""


class TocsinError(Exception):
    """A call failed. Catch a subclass for one status code, or look at `reason`."""

    code: grpc.StatusCode
    by_code: ClassVar[dict[grpc.StatusCode, type["TocsinError"]]] = {}

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.message = message
        """For people."""
        self.code = code
        self.reason = reason
        """For programs: a value of `ErrorReason` without its prefix, such as `INCIDENT_RESOLVED`. Empty when no Tocsin
        service has answered, for example when nothing listens at the address."""
        self.metadata = dict(metadata or {})
        """What the reason is about, such as the `name` of what does not exist."""
        self.field_violations = tuple(field_violations)
        self.retry_after = retry_after
        """Seconds to wait before the call is repeated; None when the server names no time."""
        self.request_id = request_id
        """The idempotency key of the call. A repeat with it is done once only, and gets the first answer (24 hours)."""

    def __init_subclass__(cls, code: grpc.StatusCode) -> None:
        TocsinError.by_code[code] = cls

    @property
    def is_transient(self) -> bool:
        """Whether the same call, with the same `request_id`, may succeed later."""
        return self.code in _TRANSIENT or self.reason == "CONFLICT"


class InvalidArgument(TocsinError, code=grpc.StatusCode.INVALID_ARGUMENT):
    """The request breaks a rule; `field_violations` names the fields."""


class Unauthenticated(TocsinError, code=grpc.StatusCode.UNAUTHENTICATED):
    """No credential, a wrong one, or one whose time is over."""


class PermissionDenied(TocsinError, code=grpc.StatusCode.PERMISSION_DENIED):
    """The credential lacks the scope that `metadata["scope"]` names."""


class NotFound(TocsinError, code=grpc.StatusCode.NOT_FOUND):
    """The tenant of the credential has no such resource."""


class AlreadyExists(TocsinError, code=grpc.StatusCode.ALREADY_EXISTS):
    """The id is taken."""


class Aborted(TocsinError, code=grpc.StatusCode.ABORTED):
    """Another change was faster: `ETAG_MISMATCH` (read again, decide again) or `CONFLICT` (repeat as it is)."""


class FailedPrecondition(TocsinError, code=grpc.StatusCode.FAILED_PRECONDITION):
    """The state of the resource does not allow this, such as an acknowledge of a resolved incident."""


class ResourceExhausted(TocsinError, code=grpc.StatusCode.RESOURCE_EXHAUSTED):
    """Too much at once; repeat after `retry_after`. Or the message is too large (`MESSAGE_TOO_LARGE`)."""

    @property
    def is_transient(self) -> bool:
        """A message that is too large stays too large."""
        return self.reason in {"OVERLOADED", "RATE_LIMITED"}


class Unavailable(TocsinError, code=grpc.StatusCode.UNAVAILABLE):
    """No service answered, or it cannot work now. The client has repeated the call already, as the service config says."""


class DeadlineExceeded(TocsinError, code=grpc.StatusCode.DEADLINE_EXCEEDED):
    """No answer in time. Whether the call took effect is not known: repeat it with its `request_id`."""


class Cancelled(TocsinError, code=grpc.StatusCode.CANCELLED):
    """The call was cancelled, or the client was closed."""


class Unimplemented(TocsinError, code=grpc.StatusCode.UNIMPLEMENTED):
    """The service is older than this client and does not know the method."""


class Internal(TocsinError, code=grpc.StatusCode.INTERNAL):
    """A defect of Tocsin; `metadata["error_id"]` finds it in the service's log."""


_TRANSIENT: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def from_status(status: status_pb2.Status, *, request_id: str = "") -> TocsinError:
    """The exception for a `google.rpc.Status`, such as the `error` of one result of a batch."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    reason, metadata, violations, retry_after = "", {}, [], None
    for detail in status.details:
        if info := _unpack(detail, error_details_pb2.ErrorInfo):
            reason, metadata = info.reason, dict(info.metadata)
        elif bad := _unpack(detail, error_details_pb2.BadRequest):
            violations += [FieldViolation(each.field, each.description) for each in bad.field_violations]
        elif retry := _unpack(detail, error_details_pb2.RetryInfo):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    kind: Callable[..., TocsinError] = TocsinError.by_code.get(code, TocsinError)
    return kind(
        status.message,
        code=code,
        reason=reason,
        metadata=metadata,
        field_violations=violations,
        retry_after=retry_after,
        request_id=request_id,
    )


def from_rpc_error(error: grpc.RpcError, *, request_id: str = "") -> TocsinError:
    """The exception for an error of gRPC, sync or aio. The clients convert by themselves; `future()` does not."""
    call: Any = error
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS:
            try:
                return from_status(status_pb2.Status.FromString(value), request_id=request_id)
            except DecodeError:
                break
    return from_status(
        status_pb2.Status(code=call.code().value[0], message=call.details() or ""), request_id=request_id
    )


def _unpack(detail: Any, kind: Any) -> Any:
    message = kind()
    return message if detail.Unpack(message) else None
