"""The error that crosses processes: its table, its wire form, the way back."""

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.errors import (
    DEFAULT_CODES,
    DETAILS_KEY,
    FieldViolation,
    TocsinError,
    from_rpc_error,
    from_status,
    invalid,
    invalid_fields,
    not_found,
    to_status,
)

CONTRACT = Path(__file__).parents[3] / "protos/tocsin/errors/v1/error_reason.proto"


def documented() -> dict[str, str]:
    """Reason → the status code its comment in the contract begins with."""
    found, code = {}, ""
    for line in CONTRACT.read_text().splitlines():
        comment = re.match(r"\s+// ([A-Z_]{5,})[.,]", line)
        value = re.match(r"\s+(ERROR_REASON_[A-Z_]+) = \d+(?: \[deprecated = true\])?;", line)
        if comment:
            code = comment.group(1)
        if value:
            found[value.group(1)] = code
    return found


def test_every_reason_has_the_code_its_contract_names() -> None:
    codes = {ErrorReason.Name(reason): code.name for reason, code in DEFAULT_CODES.items()}
    contract = documented()
    assert codes.keys() == contract.keys() == set(ErrorReason.keys())
    del codes["ERROR_REASON_UNSPECIFIED"], contract["ERROR_REASON_UNSPECIFIED"]
    assert codes == contract


@pytest.mark.parametrize("reason", [r for r in ErrorReason.values() if r])
def test_there_and_back(reason: ErrorReason.ValueType) -> None:
    error = TocsinError(
        reason,
        "what happened",
        metadata={"name": "widgets/x", "n": "1"},
        fields=[FieldViolation("levels[0].timeout", "must be positive")],
        retry_after=2.5,
    )
    status = to_status(error)
    assert [each.type_url for each in status.details].count("type.googleapis.com/google.rpc.ErrorInfo") == 1
    back = from_status(status_pb2.Status.FromString(status.SerializeToString()))
    assert (back.reason, back.code, back.message, dict(back.metadata), back.fields, back.retry_after) == (
        (error.reason, error.code, error.message, error.metadata, error.fields, 2.5)
    )


@given(
    st.sampled_from([r for r in ErrorReason.values() if r]),
    st.text(max_size=50),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
)
def test_any_text_travels(reason: ErrorReason.ValueType, message: str, metadata: dict[str, str]) -> None:
    back = from_status(to_status(TocsinError(reason, message, metadata=metadata)))
    assert (back.reason, back.message, dict(back.metadata)) == (reason, message, metadata)


def test_details_follow_the_code() -> None:
    def kinds(error: TocsinError) -> list[str]:
        return [each.type_url.rpartition(".")[2] for each in to_status(error).details]

    assert kinds(invalid("a", "no")) == ["ErrorInfo", "BadRequest"]
    assert kinds(not_found(ErrorReason.ERROR_REASON_QUEUE_NOT_FOUND, "queues/x")) == ["ErrorInfo", "ResourceInfo"]
    assert kinds(TocsinError(ErrorReason.ERROR_REASON_INCIDENT_STATE, "x")) == ["ErrorInfo", "PreconditionFailure"]
    assert kinds(TocsinError(ErrorReason.ERROR_REASON_OVERLOADED, "x")) == ["ErrorInfo", "RetryInfo"]
    assert kinds(TocsinError(ErrorReason.ERROR_REASON_CONFLICT, "x")) == ["ErrorInfo"]


def test_a_reason_may_come_with_another_code() -> None:
    code = grpc.StatusCode.INVALID_ARGUMENT
    error = TocsinError(ErrorReason.ERROR_REASON_QUEUE_NOT_FOUND, "x", code=code)
    assert from_status(to_status(error)).code is code


def test_the_message_of_many_violations_names_the_first() -> None:
    assert invalid_fields([FieldViolation("a", "no"), FieldViolation("b", "no")]).message == "a: no (and 1 more)"
    assert invalid_fields([FieldViolation("", "no field given")]).message == "no field given"


def test_a_reason_from_the_future_keeps_its_code() -> None:
    status = status_pb2.Status(code=grpc.StatusCode.ABORTED.value[0], message="later")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NOT_YET", metadata={"a": "b"}))
    error = from_status(status)
    assert (error.reason, error.code) == (ErrorReason.ERROR_REASON_UNSPECIFIED, grpc.StatusCode.ABORTED)
    assert error.metadata == {"a": "b", "reason": "NOT_YET"}


def rpc_error(code: grpc.StatusCode, trailing: tuple[tuple[str, bytes], ...] = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details="gone")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("UNAVAILABLE", "SERVICE_UNAVAILABLE"),
        ("DEADLINE_EXCEEDED", "SERVICE_UNAVAILABLE"),
        ("UNIMPLEMENTED", "SERVICE_UNAVAILABLE"),
        ("RESOURCE_EXHAUSTED", "OVERLOADED"),
        ("UNKNOWN", "INTERNAL"),
    ],
)
def test_what_the_transport_says_becomes(code: str, reason: str) -> None:
    error = from_rpc_error(rpc_error(grpc.StatusCode[code]), service="below")
    assert error.reason_name == reason
    if reason == "SERVICE_UNAVAILABLE":
        assert error.metadata == {"service": "below"}
        assert error.code is grpc.StatusCode.UNAVAILABLE


def test_the_other_sides_own_words_win() -> None:
    sent = to_status(TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "away")).SerializeToString()
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, ((DETAILS_KEY, sent),)))
    assert error.reason == ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE
