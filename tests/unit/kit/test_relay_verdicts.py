"""What each answer of a receiver means for a row and for the relay."""

from datetime import UTC, datetime

import grpc
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.db.outbox_rows import OutboxRow, Retry
from tocsin_kit.db.relay_verdicts import RETRY_CAP, Verdict, is_final, judge, refusal_pause, retry_pause
from tocsin_kit.errors import DEFAULT_CODES, TocsinError, from_rpc_error

SAYS_NOTHING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def row(*, refusals: int = 0, retries: int = 0) -> OutboxRow:
    return OutboxRow(1, "a", "", "thing", b"", datetime(2026, 1, 1, tzinfo=UTC), 1, refusals, retries)


def answered(code: grpc.StatusCode) -> Exception:
    """As a client raises it: with the answer it got as the cause."""
    raw = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="x")
    error = from_rpc_error(raw, service="escalation")
    error.__cause__ = raw
    return error


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_code_has_a_verdict_and_what_says_nothing_about_a_row_never_ends_it(
    code: grpc.StatusCode,
) -> None:
    verdict = judge(answered(code)).verdict
    assert (verdict in (Verdict.AWAY, Verdict.SLOW)) == (code in SAYS_NOTHING)
    if code in SAYS_NOTHING:
        assert not is_final(row(refusals=1000), verdict, accepts_others=True, has_substitute=True)


@pytest.mark.parametrize("reason", sorted(DEFAULT_CODES))
def test_every_reason_of_the_contract_is_judged_by_its_code_but_a_message_that_is_too_large(
    reason: ErrorReason.ValueType,
) -> None:
    failure = judge(TocsinError(reason, "why"))
    if reason == ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE:
        assert failure.verdict is Verdict.CONTENT
    else:
        assert (failure.verdict in (Verdict.AWAY, Verdict.SLOW)) == (DEFAULT_CODES[reason] in SAYS_NOTHING)
    assert failure.error.endswith(": why")


def test_lost_connections_and_silence_are_the_receivers_and_anything_odd_may_be_the_rows() -> None:
    assert judge(ConnectionResetError("gone")).verdict is Verdict.AWAY
    assert judge(TimeoutError()).verdict is Verdict.SLOW
    assert judge(KeyError("x")).verdict is Verdict.FAULT


def test_a_fault_ends_a_row_only_when_the_receiver_works_or_a_substitute_goes_on() -> None:
    few, many = row(refusals=3), row(refusals=1000)
    assert is_final(few, Verdict.FAULT, accepts_others=True, has_substitute=False)
    assert not is_final(row(refusals=2), Verdict.FAULT, accepts_others=True, has_substitute=True)
    assert not is_final(many, Verdict.FAULT, accepts_others=False, has_substitute=False)
    assert is_final(many, Verdict.FAULT, accepts_others=False, has_substitute=True)
    assert not is_final(many, Verdict.CONFLICT, accepts_others=True, has_substitute=True)
    assert is_final(row(), Verdict.CONTENT, accepts_others=False, has_substitute=False)


def test_four_refusals_take_less_than_two_seconds_and_no_pause_is_without_bound() -> None:
    assert sum(refusal_pause(row(refusals=number), Verdict.FAULT) for number in range(3)) < 2
    assert all(refusal_pause(row(refusals=number), Verdict.FAULT) <= 5 for number in range(0, 10_000, 97))
    assert all(refusal_pause(row(refusals=number), Verdict.CONFLICT) <= 1 for number in range(0, 10_000, 97))
    assert all(retry_pause(row(retries=number), Retry("later")) <= RETRY_CAP for number in range(0, 10_000, 97))
    assert retry_pause(row(), Retry("later", after=3600)) == RETRY_CAP
