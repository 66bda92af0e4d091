"""Every SQLSTATE the driver knows has a decision, and the decision is what callers are told."""

import asyncpg
import grpc
import pytest
from asyncpg import exceptions as pg
from tocsin_kit.db.failures import is_connection_loss, is_of_server, is_repeatable, translate
from tocsin_kit.db.sqlstates import CLASSES, CODES, ROUTINES, Meaning, decide, of_code

KNOWN = sorted(
    {
        (code, error)
        for error in vars(pg).values()
        if isinstance(error, type) and issubclass(error, asyncpg.PostgresError)
        for code in [getattr(error, "sqlstate", None)]
        if code
    },
    key=lambda pair: (pair[0], pair[1].__name__),
)

AWAY = [
    "08000",
    "08001",
    "08003",
    "08004",
    "08006",
    "08007",
    "08P01",
    "0A000",
    "25006",
    "25P03",
    "25P04",
    "26000",
    "28000",
    "28P01",
    "34000",
    "3D000",
    "40003",
    "42P05",
    "53000",
    "53100",
    "53200",
    "53300",
    "53400",
    "55000",
    "55006",
    "55P02",
    "57000",
    "57014",
    "57P01",
    "57P02",
    "57P03",
    "57P04",
    "57P05",
    "58000",
    "58030",
    "58P01",
    "58P02",
    "58P03",
    "F0000",
    "F0001",
    "XX000",
    "XX001",
    "XX002",
]

STATUS = {
    Meaning.AWAY: grpc.StatusCode.UNAVAILABLE,
    Meaning.DENIED: grpc.StatusCode.UNAVAILABLE,
    Meaning.REPEATABLE: grpc.StatusCode.ABORTED,
    Meaning.HELD: grpc.StatusCode.ABORTED,
    Meaning.CALLER: None,
    Meaning.DEFECT: None,
}


def server_says(code: str, routine: str = "") -> asyncpg.PostgresError:
    """The error as the driver makes it from the server's message."""
    return asyncpg.PostgresError.new({"S": "ERROR", "C": code, "M": "no", "R": routine})


def test_the_driver_knows_hundreds_of_codes_and_each_class_is_decided() -> None:
    assert len(KNOWN) > 200
    assert {code[:2] for code, _ in KNOWN} | {"01", "02"} == set(CLASSES), "01 and 02 are warnings, never raised"
    assert set(CODES) <= {code for code, _ in KNOWN}, "an entry for a code that does not exist"
    assert {code for code, _ in ROUTINES} <= {code for code, _ in KNOWN}


def test_what_a_caller_is_told() -> None:
    for code in sorted({code for code, _ in KNOWN}):
        error = server_says(code)
        decision = of_code(code)
        told = translate(error)
        assert decide(error) == decision, code
        assert (None if told is None else told.code) is STATUS[decision.meaning], code
        assert (decision.meaning is Meaning.AWAY) == (code in AWAY), code
        assert is_repeatable(error) == (decision.meaning is Meaning.REPEATABLE), code
        if decision.meaning not in (Meaning.CALLER, Meaning.DEFECT):
            assert decision.words, f"callers see these words instead of the server's: {code}"
        if is_connection_loss(error):
            assert decision.meaning is Meaning.AWAY, code


def test_no_error_class_of_the_driver_is_undecided() -> None:
    assert [error.__name__ for _, error in KNOWN if decide(error("no")) is None] == []


@pytest.mark.parametrize(
    ("code", "routine", "meaning"),
    [
        ("0A000", "RevalidateCachedQuery", Meaning.REPEATABLE),
        ("0A000", "PreventInTransactionBlock", Meaning.AWAY),
        ("42501", "aclcheck_error", Meaning.DENIED),
        ("42501", "ExecWithCheckOptions", Meaning.DEFECT),
        ("54000", "GetNewTransactionId", Meaning.AWAY),
        ("54000", "_bt_check_third_page", Meaning.CALLER),
        ("40001", "", Meaning.REPEATABLE),
        ("40P01", "", Meaning.REPEATABLE),
        ("55P03", "", Meaning.HELD),
        ("23503", "", Meaning.CALLER),
        ("23505", "", Meaning.CALLER),
        ("23514", "ExecConstraints", Meaning.CALLER),
        ("23514", "ExecPartitionCheckEmitError", Meaning.REPEATABLE),
        ("42P01", "", Meaning.DEFECT),
        ("Q1Q1Q", "", Meaning.DEFECT),
        ("25042", "", Meaning.DEFECT),
        ("53042", "", Meaning.AWAY),
    ],
)
def test_special_cases(code: str, routine: str, meaning: Meaning) -> None:
    decision = decide(server_says(code, routine))
    assert decision is not None
    assert decision.meaning is meaning


def test_what_is_the_servers_state_and_no_transactions_fault() -> None:
    of_server = {code for code, _ in KNOWN if is_of_server(server_says(code))}
    assert of_server == {"25006", "28000", "28P01", "3D000", "42501", "53100", "53300", "57P03", "57P04"}
    assert {translate(server_says(code)).code for code in of_server} == {grpc.StatusCode.UNAVAILABLE}  # type: ignore[union-attr]
    assert not is_of_server(server_says("42501", "ExecWithCheckOptions"))
    told = translate(server_says("53100"))
    assert told is not None
    assert not is_of_server(told)
    told.__cause__ = server_says("53100")
    assert is_of_server(told)
    assert not is_of_server(TimeoutError())
    assert not is_of_server(None)


def test_the_drivers_own_failures() -> None:
    assert is_repeatable(asyncpg.OutdatedSchemaCacheError("no"))
    assert is_connection_loss(asyncpg.InternalClientError("unexpected message"))
    read_only = translate(asyncpg.TargetServerAttributeNotMatched("no"))
    assert read_only is not None
    assert read_only.code is grpc.StatusCode.UNAVAILABLE
    assert translate(ValueError("ours")) is None
