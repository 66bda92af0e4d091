"""The result for each incident of many, in an answer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_kit.errors import TocsinError, to_status
from tocsin_kit.rpc.listing import ANSWER_BYTES

from tocsin_escalation.app.incidents.advance import Advanced
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.rpc import mapping


def results(ids: Sequence[UUID], answers: Sequence[Advanced | TocsinError]) -> list[pb.IncidentResult]:
    """One for each incident, in order."""
    done = told((answer.run, answer.update_time) for answer in answers if isinstance(answer, Advanced))
    return [
        next(done)
        if isinstance(answer, Advanced)
        else pb.IncidentResult(name=f"incidents/{id}", error=to_status(answer))
        for id, answer in zip(ids, answers, strict=True)
    ]


def told(runs: Iterable[tuple[Escalation, datetime]]) -> Iterator[pb.IncidentResult]:
    """Each of them; labels and links are left out once the earlier ones fill an answer.

    Their labels may be a thousand times as large as all else. Otherwise 250 incidents could be acknowledged, and the answer, also
    to each repeat, would be larger than clients accept.
    """
    room = ANSWER_BYTES
    for run, update_time in runs:
        shown = run if room > 0 else replace(run, facts=replace(run.facts, labels={}, links=()))
        incident = mapping.incident(shown, update_time)
        room -= incident.ByteSize()
        yield pb.IncidentResult(name=incident.name, incident=incident)
