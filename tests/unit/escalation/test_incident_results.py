"""Answers about many incidents can be read with labels of any size."""

from datetime import UTC, datetime
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.incident_service_pb2 import BatchAcknowledgeIncidentsResponse
from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.rpc import incident_results
from tocsin_escalation.rpc.incident_results import results
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.listing import ANSWER_BYTES

NOW = datetime(2026, 11, 30, tzinfo=UTC)
MOST = 250
"""Names in one request."""
LARGE = {f"label{number}": "v" * 4000 for number in range(64)}
"""As large as an alert may be."""


def advanced(number: int, labels: dict[str, str]) -> Advanced:
    facts = Facts("db down", "db1", 1, "integrations/prom", NOW, labels, (("https://wiki.example.com/x", "runbook"),))
    return Advanced(Escalation("acme", UUID(int=number), facts), NOW, already=False)


def test_an_answer_about_large_incidents_leaves_out_their_labels_once_it_is_full() -> None:
    ids = [UUID(int=number) for number in range(MOST)]
    gone = TocsinError(ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND, "it does not exist")
    answers = [gone if number == 100 else advanced(number, LARGE) for number in range(MOST)]
    told = results(ids, answers)
    assert BatchAcknowledgeIncidentsResponse(results=told).ByteSize() < 2 * ANSWER_BYTES
    assert [each.name for each in told] == [f"incidents/{id}" for id in ids]
    assert [each.WhichOneof("result") for each in told] == ["incident"] * 100 + ["error"] + ["incident"] * 149
    whole = [number for number, each in enumerate(told) if each.incident.labels]
    assert whole == [*range(len(whole))]
    assert len(whole) * len(LARGE) * 4000 >= ANSWER_BYTES
    assert all(dict(told[number].incident.labels) == LARGE and told[number].incident.links for number in whole)
    assert all(each.incident.title == "db down" for number, each in enumerate(told) if number != 100)


def test_answers_about_usual_incidents_are_whole() -> None:
    answers = [advanced(number, {"team": "web"}) for number in range(MOST)]
    told = results([UUID(int=number) for number in range(MOST)], answers)
    assert all(each.incident.labels == {"team": "web"} and each.incident.links for each in told)
    assert list(incident_results.told([(answers[0].run, NOW)])) == told[:1]
