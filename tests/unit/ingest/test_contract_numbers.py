"""The domain numbers things as the contract does; it imports nothing, so a test must keep them together."""

from enum import IntEnum
from typing import Any

import pytest
from tocsin.ingest.v1 import alert_pb2, integration_service_pb2, internal_service_pb2
from tocsin.type.v1 import severity_pb2
from tocsin_ingest.domain.decision import AlertState, Outcome
from tocsin_ingest.domain.differences import Difference
from tocsin_ingest.domain.message import Action
from tocsin_ingest.domain.routing import Operator
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.rpc.mapping import STATES


@pytest.mark.parametrize(
    ("domain", "contract", "prefix"),
    [
        (Severity, severity_pb2.Severity, "SEVERITY_"),
        (Action, alert_pb2.AlertAction, "ALERT_ACTION_"),
        (Outcome, alert_pb2.AlertOutcome, "ALERT_OUTCOME_"),
        (Difference, internal_service_pb2.IncidentDifference, "INCIDENT_DIFFERENCE_"),
        (Operator, integration_service_pb2.MatchOperator, "MATCH_OPERATOR_"),
    ],
)
def test_same_numbers(domain: type[IntEnum], contract: Any, prefix: str) -> None:
    ours = {f"{prefix}{each.name}": each.value for each in domain if each.name != "UNSPECIFIED"}
    theirs = {name: number for name, number in contract.items() if not name.endswith("_UNSPECIFIED")}
    assert ours == theirs


def test_every_state_has_its_number() -> None:
    assert set(STATES) == set(AlertState)
    numbers = {number for name, number in alert_pb2.AlertState.items() if number}
    assert set(STATES.values()) == numbers
