"""What senders write as details, as it is kept."""

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_ingest.app.alerts.alert_request import request_of
from tocsin_ingest.http import fit


def kept(details: dict[str, Any]) -> Any:
    alert = AlertInput()
    alert.details["before"] = "it goes"
    fit.set_details(alert, details)
    return MessageToDict(alert.details)


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {"a": "end"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"a": None, "b": True, "c": False, "d": 1, "e": -2.5, "f": "text", "": 0}, None),
        ({"a": {}, "b": [], "c": {"d": {"e": []}}, "f": [[], {}, [1, "x", None, {"y": [True]}]]}, None),
        # What a double cannot hold.
        ({"a": 2**53 + 1, "b": 10**400, "c": float("nan")}, {"a": str(2**53 + 1), "b": f"1{'0' * 253}…", "c": "nan"}),
        # The last of those whose names are alike once they are shortened, and nothing of the others.
        ({"x" * 300: {"one": 1}, "x" * 301: {"two": 2}}, {"x" * 254 + "…": {"two": 2}}),
        ({"x" * 300: [1, 2], "x" * 301: [3]}, {"x" * 254 + "…": [3]}),
        ({"x" * 300: {"one": 1}, "x" * 301: "two"}, {"x" * 254 + "…": "two"}),
        (nested(14), None),
    ],
)
def test_details_are_kept_as_they_came(given: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert kept(given) == (given if expected is None else expected)


def test_what_is_nested_too_deeply_is_kept_as_text() -> None:
    found = kept(nested(40))
    for _ in range(15):
        found = found["a"]
    assert found == {"a": str(nested(24)).replace("'", '"')}


@pytest.mark.parametrize("request_id", ["", "00000000-0000-4000-8000-000000000000"])
@pytest.mark.parametrize("alert", [AlertInput(), AlertInput(dedup_key="k", summary="x" * 300, labels={"a": "b"})])
def test_a_request_is_put_together_as_its_bytes(alert: AlertInput, request_id: str) -> None:
    made = SendAlertRequest.FromString(request_of(alert, request_id))
    assert made == SendAlertRequest(alert=alert, request_id=request_id)
    assert made.HasField("alert")
