from typing import Literal

import pytest

from tests import reports

Outcome = Literal["passed", "failed", "skipped"]


def of(**phases: Outcome) -> list[pytest.TestReport]:
    return [pytest.TestReport("test", ("", 0, ""), {}, each, None, when) for when, each in phases.items()]  # type: ignore[arg-type]


def test_of_what_passed_the_call_is_told() -> None:
    assert [each.when for each in reports.of_interest(of(setup="passed", call="passed", teardown="passed"))] == ["call"]


@pytest.mark.parametrize(
    "phases",
    [
        {"setup": "failed", "teardown": "passed"},
        {"setup": "passed", "call": "failed", "teardown": "passed"},
        {"setup": "passed", "call": "skipped", "teardown": "passed"},
        {"setup": "passed", "call": "passed", "teardown": "failed"},
    ],
)
def test_of_what_did_not_pass_all_is_told(phases: dict[str, Outcome]) -> None:
    told = of(**phases)
    assert reports.of_interest(told) == told
