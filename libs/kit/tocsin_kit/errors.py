"""The one error type that is sent between processes.

`TocsinError` is sent as a `google.rpc.Status` and becomes the same error on the other side, and the edges render it (gRPC here,
JSON in `tocsin_kit.http`) without a translation in between. Any other exception is a defect: the edges mask it and log it under
an id.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

DOMAIN: Final = "tocsin.dev"
DETAILS_KEY: Final = "grpc-status-details-bin"
_PREFIX: Final = "ERROR_REASON_"
_TEXT_CHARACTERS: Final = 512
"""Of a message, a path, a description or a metadata value: it may contain text of a request."""
_FIELDS_BYTES: Final = 3 << 10
"""Of all violations: gRPC clients drop trailers beyond 8 KiB and then know nothing, and base64 adds a third."""
_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})

_Code = grpc.StatusCode

# Follows the comments in tocsin/errors/v1/error_reason.proto; a test compares the two.
DEFAULT_CODES: Final[Mapping[ErrorReason.ValueType, grpc.StatusCode]] = MappingProxyType(
    {
        ErrorReason.ERROR_REASON_UNSPECIFIED: _Code.UNKNOWN,
        ErrorReason.ERROR_REASON_INVALID_FIELD: _Code.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_REQUEST_ID_REUSED: _Code.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_PAGE_TOKEN_INVALID: _Code.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_UPDATE_MASK_INVALID: _Code.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_VERIFICATION_CODE_WRONG: _Code.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_ALERT_TOO_LARGE: _Code.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_CURSOR_INVALID: _Code.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_CREDENTIAL_MISSING: _Code.UNAUTHENTICATED,
        ErrorReason.ERROR_REASON_CREDENTIAL_INVALID: _Code.UNAUTHENTICATED,
        ErrorReason.ERROR_REASON_CREDENTIAL_EXPIRED: _Code.UNAUTHENTICATED,
        ErrorReason.ERROR_REASON_SCOPE_MISSING: _Code.PERMISSION_DENIED,
        ErrorReason.ERROR_REASON_SOURCE_NOT_ALLOWED: _Code.PERMISSION_DENIED,
        ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_ALERT_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_POLICY_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_USER_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_TEAM_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_CONTACT_METHOD_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_NOTIFICATION_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_DEAD_LETTER_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_QUEUE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_OUTBOX_MESSAGE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_ALREADY_EXISTS: _Code.ALREADY_EXISTS,
        ErrorReason.ERROR_REASON_ETAG_MISMATCH: _Code.ABORTED,
        ErrorReason.ERROR_REASON_CONFLICT: _Code.ABORTED,
        ErrorReason.ERROR_REASON_INCIDENT_RESOLVED: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_INCIDENT_STATE: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_NO_NEXT_LEVEL: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_IN_USE: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_NOT_VERIFIED: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_VERIFICATION_EXPIRED: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_SCHEDULE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_OVERRIDE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_FIXED_PERIOD_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_ABSENCE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_SERVICE_ACCOUNT_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_API_KEY_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_CALENDAR_FEED_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_SILENCE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_ALREADY_ENDED: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_MESSAGE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_REMINDER_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_SUBSCRIPTION_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_DELIVERY_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_RECURRING_MESSAGE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_CALENDAR_IMPORT_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_SWAP_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_SWAP_STATE: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_SWAP_NOT_POSSIBLE: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_DIGEST_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_TEMPLATE_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_SLACK_GROUP_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_MESSAGE_STATE: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_TASK_NOT_FOUND: _Code.NOT_FOUND,
        ErrorReason.ERROR_REASON_TASK_STATE: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_TASK_NEEDED: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_CURSOR_TOO_OLD: _Code.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_WATCH_TOO_SLOW: _Code.ABORTED,
        ErrorReason.ERROR_REASON_OVERLOADED: _Code.RESOURCE_EXHAUSTED,
        ErrorReason.ERROR_REASON_RATE_LIMITED: _Code.RESOURCE_EXHAUSTED,
        ErrorReason.ERROR_REASON_LIMIT_REACHED: _Code.RESOURCE_EXHAUSTED,
        ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE: _Code.RESOURCE_EXHAUSTED,
        ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE: _Code.UNAVAILABLE,
        ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE: _Code.UNAVAILABLE,
        ErrorReason.ERROR_REASON_CANCEL_UNCONFIRMED: _Code.UNAVAILABLE,
        ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT: _Code.DEADLINE_EXCEEDED,
        ErrorReason.ERROR_REASON_INTERNAL: _Code.INTERNAL,
    }
)
# RetryInfo is promised for these two; if the code gives no time, this one is sent (seconds).
_DEFAULT_RETRY_AFTER: Final = {ErrorReason.ERROR_REASON_OVERLOADED: 1.0, ErrorReason.ERROR_REASON_RATE_LIMITED: 1.0}
_CODE_BY_NUMBER: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class FieldViolation(NamedTuple):
    """One rule that one field breaks."""

    field: str
    """Path as the caller wrote it: `levels[0].timeout`."""
    description: str
    """The rule and the remedy, in one sentence."""


class TocsinError(Exception):
    """A failure with a reason of the contract; `message` is for people, `reason` and `metadata` for programs.

    `code` is the reason's usual status unless given. `metadata` carries what varies in the message. `retry_after`
    is in seconds.
    """

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        metadata: Mapping[str, str] = _EMPTY,
        fields: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        message = _clipped(message)
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = code or DEFAULT_CODES[reason]
        self.metadata = {key: _clipped(value) for key, value in metadata.items()} if metadata else metadata
        self.fields = _fitting(fields) if fields else ()
        self.retry_after = _DEFAULT_RETRY_AFTER.get(reason) if retry_after is None else retry_after

    @property
    def reason_name(self) -> str:
        """The reason as it is in `ErrorInfo`: without the enum's prefix."""
        return ErrorReason.Name(self.reason).removeprefix(_PREFIX)

    def __repr__(self) -> str:
        return f"TocsinError({self.reason_name}, {self.message!r})"


def invalid(field: str, description: str) -> TocsinError:
    """INVALID_FIELD with one violation; `field` is the path as the caller wrote it."""
    return invalid_fields((FieldViolation(field, description),))


def invalid_fields(violations: Sequence[FieldViolation]) -> TocsinError:
    """INVALID_FIELD naming every violation; the first one is the message."""
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    message = f"{first.field}: {first.description}{more}" if first.field else f"{first.description}{more}"
    return TocsinError(ErrorReason.ERROR_REASON_INVALID_FIELD, message, fields=violations)


def not_found(reason: ErrorReason.ValueType, name: str) -> TocsinError:
    """A NOT_FOUND reason for the resource `name`; the same text whether it never existed or belongs to another tenant."""
    return TocsinError(reason, f"{name} does not exist", metadata={"name": name})


def to_status(error: TocsinError) -> status_pb2.Status:
    """The wire form: exactly one ErrorInfo, then the detail its status code calls for (AIP-193)."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    _pack(
        status,
        error_details_pb2.ErrorInfo(reason=error.reason_name, domain=DOMAIN, metadata=dict(error.metadata)),
    )
    if error.fields:
        bad = error_details_pb2.BadRequest()
        for violation in error.fields:
            bad.field_violations.add(field=violation.field, description=violation.description)
        _pack(status, bad)
    if error.code is _Code.FAILED_PRECONDITION:
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(
            type=error.reason_name, subject=error.metadata.get("name", ""), description=error.message
        )
        _pack(status, failure)
    if error.code is _Code.NOT_FOUND and "name" in error.metadata:
        name = error.metadata["name"]
        _pack(
            status,
            error_details_pb2.ResourceInfo(
                resource_type=f"{DOMAIN}/{name.partition('/')[0]}", resource_name=name, description=error.message
            ),
        )
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> TocsinError:
    """The error that another process sent. A reason this build does not know keeps its status code and its metadata."""
    code = _CODE_BY_NUMBER.get(status.code, _Code.UNKNOWN)
    reason = ErrorReason.ERROR_REASON_UNSPECIFIED
    metadata: dict[str, str] = {}
    fields: list[FieldViolation] = []
    retry_after: float | None = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            metadata = dict(info.metadata)
            try:
                reason = ErrorReason.Value(_PREFIX + info.reason)
            except ValueError:
                metadata["reason"] = info.reason
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            fields = [FieldViolation(each.field, each.description) for each in bad.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry_after = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToNanoseconds() / 1e9
    return TocsinError(reason, status.message, code=code, metadata=metadata, fields=fields, retry_after=retry_after)


# The meaning of a status without Tocsin's own details: it came from the transport, a proxy or gRPC itself. UNIMPLEMENTED means an
# old build during a deploy: the caller should repeat the call.
_TRANSPORT: Final[Mapping[grpc.StatusCode, ErrorReason.ValueType]] = {
    _Code.UNAVAILABLE: ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
    _Code.DEADLINE_EXCEEDED: ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
    _Code.CANCELLED: ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
    _Code.UNIMPLEMENTED: ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
    _Code.RESOURCE_EXHAUSTED: ErrorReason.ERROR_REASON_OVERLOADED,
    _Code.UNAUTHENTICATED: ErrorReason.ERROR_REASON_CREDENTIAL_INVALID,
}

_TOO_LARGE: Final = "message larger than max"  # gRPC's own words when it refuses to read one


def from_rpc_error(error: grpc.aio.AioRpcError, *, service: str = "") -> TocsinError:
    """The error of a client's call: the other side's own error, or SERVICE_UNAVAILABLE naming `service` when no answer came."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    reason = _TRANSPORT.get(error.code())
    if _TOO_LARGE in (error.details() or ""):
        reason = ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE  # repeating it would never help
    if reason is None:
        return TocsinError(
            ErrorReason.ERROR_REASON_INTERNAL, error.details() or "no details", code=error.code(), metadata={}
        )
    return TocsinError(
        reason,
        f"{service or 'a service'} did not answer: {error.code().name} {error.details() or ''}".rstrip(),
        metadata={"service": service} if service else _EMPTY,
    )


def _clipped(text: str) -> str:
    return text if len(text) <= _TEXT_CHARACTERS else text[: _TEXT_CHARACTERS - 1] + "…"


def _fitting(fields: Sequence[FieldViolation]) -> tuple[FieldViolation, ...]:
    """The first of them, as many as fit into an answer; always at least one."""
    kept: list[FieldViolation] = []
    room = _FIELDS_BYTES
    for each in fields:
        violation = FieldViolation(_clipped(each.field), _clipped(each.description))
        room -= len(violation.field.encode("utf-8", "replace")) + len(violation.description.encode("utf-8", "replace"))
        if kept and room < 0:
            break
        kept.append(violation)
    return tuple(kept)


def _pack(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)
