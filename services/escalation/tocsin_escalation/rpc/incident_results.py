"""What became of each incident of many, as answers say it."""

from collections.abc import Sequence
from uuid import UUID

from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_kit.errors import TocsinError, to_status

from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.rpc import mapping


def results(ids: Sequence[UUID], answers: Sequence[Advanced | TocsinError]) -> list[pb.IncidentResult]:
    """One for each incident, in order."""
    return [
        pb.IncidentResult(name=f"incidents/{id}", incident=mapping.incident(answer.run, answer.update_time))
        if isinstance(answer, Advanced)
        else pb.IncidentResult(name=f"incidents/{id}", error=to_status(answer))
        for id, answer in zip(ids, answers, strict=True)
    ]
