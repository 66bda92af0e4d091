"""Who would be paged for a simulated alert: escalation simulates the event that it would get."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.escalation.v1.incident_service_pb2 import SimulateIncidentResponse
from tocsin.escalation.v1.internal_service_pb2 import IncidentEvent
from tocsin_kit.errors import TocsinError

from tocsin_ingest.app.alerts.in_words import time_in_words
from tocsin_ingest.app.alerts.simulate_alert import Simulated
from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.events import Event, Opened
from tocsin_ingest.store.alerts.events import event_of

_NOW: Final = timedelta(minutes=1)
"""A requested time within this of now counts as now."""
_NEW: Final = UUID(int=0)


class Foreseeing(Protocol):
    """Escalation, for plans of pages."""

    async def foresee(self, event: IncidentEvent, time: datetime | None) -> SimulateIncidentResponse:
        """What would happen after this event. Raises INCIDENT_NOT_FOUND, INVALID_FIELD, SERVICE_UNAVAILABLE."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The plan, None if there is none; and the same in words, a statement a line."""

    plan: SimulateIncidentResponse | None
    explanation: tuple[str, ...]


async def pages_of(escalation: Foreseeing, org_id: str, simulated: Simulated, asked: datetime | None) -> Pages:
    """Who would be paged, and when. `asked`: the time that the request named. Raises INVALID_FIELD, SERVICE_UNAVAILABLE."""
    event, begins = _event(simulated)
    if event is None:
        return Pages(None, ())
    incident = simulated.decision.incident
    known = incident is not None and not simulated.new_incident
    if known and asked is not None and simulated.time - simulated.now > _NOW:
        return Pages(
            None, (f"what becomes of incidents/{incident.id} until then is not simulated",) if incident else ()
        )
    id = incident.id if incident is not None else _NEW
    try:
        plan = await escalation.foresee(event_of(org_id, id, 1, event), None if known else begins)
    except TocsinError as error:
        if error.reason == reasons.ERROR_REASON_INCIDENT_NOT_FOUND:
            return Pages(None, (f"escalation has not heard of incidents/{id} yet",))
        raise
    return Pages(plan, (_first(plan),))


def _event(simulated: Simulated) -> tuple[Event | None, datetime]:
    """The event for escalation, and its time."""
    decision, alert = simulated.decision, simulated.decision.alert
    if decision.outcome in (Outcome.SILENCED, Outcome.PAUSED) and alert is not None:
        ends = [each.until for each in (alert.hold, alert.pause) if each is not None]
        return Opened(simulated.message, simulated.message.severity), max(ends)
    return decision.event, simulated.time


def _first(plan: SimulateIncidentResponse) -> str:
    for step in plan.steps:
        if step.paged_users:
            named = ", ".join(step.paged_users)
            return f"first paged, if nobody answers: {named} at {time_in_words(step.time.ToDatetime(UTC))}"
    return "nobody would be paged"
