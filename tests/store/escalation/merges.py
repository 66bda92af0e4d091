"""Incidents that are merged and taken out again, and answers about them, for the tests of merging."""

from collections.abc import Sequence
from uuid import UUID

from tocsin.escalation.v1 import incident_service_pb2 as pb
from tocsin_escalation.app.incidents.apply_events import Arrival, Result, apply_events
from tocsin_escalation.app.incidents.command import Closed, Commands, IdempotentCall
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.app.incidents.merge import plan_merge, plan_unmerge
from tocsin_escalation.domain.events import Acknowledged, Event
from tocsin_escalation.rpc import mapping
from tocsin_escalation.store.incidents import timeline

from tests.store.escalation.recorders import ORG, Desk, Notify

ANA = "users/ana"
CALLS = 16


class Ingest:
    """Resolves every incident it is asked to."""

    def __init__(self) -> None:
        self.resolved: list[list[UUID]] = []

    async def resolve(self, org_id: str, actor: str, incident_ids: Sequence[UUID]) -> list[Closed]:
        self.resolved.append(list(incident_ids))
        return [Closed(2) for _ in incident_ids]


def commands(desk: Desk, ingest: Ingest | None = None) -> Commands:
    return Commands(desk.db, desk.effects, Notify(), ingest or Ingest())


async def merge(
    desk: Desk, source: UUID, target: UUID, *, org_id: str = ORG, etag: str = ""
) -> pb.MergeIncidentResponse:
    request = pb.MergeIncidentRequest(name=f"incidents/{source}", into=f"incidents/{target}")
    return await commands(desk).together(
        IdempotentCall(org_id, "MergeIncident", request, pb.MergeIncidentResponse),
        [source, target],
        lambda runs: plan_merge(runs, source, target, ANA, etag),
        lambda done: pb.MergeIncidentResponse(already_merged=done[0].already),
    )


async def unmerge(desk: Desk, source: UUID, *, org_id: str = ORG) -> pb.UnmergeIncidentResponse:
    return await commands(desk).together(
        IdempotentCall(
            org_id, "UnmergeIncident", pb.UnmergeIncidentRequest(name=f"incidents/{source}"), pb.UnmergeIncidentResponse
        ),
        [source],
        lambda runs: plan_unmerge(runs, source, ANA, ""),
        lambda _: pb.UnmergeIncidentResponse(),
    )


async def two(desk: Desk) -> tuple[UUID, UUID]:
    return await desk.opens(title="disk full"), await desk.opens()


async def tell(desk: Desk, *events: tuple[UUID, Event], sequence: int = 2) -> None:
    arrivals = [Arrival(ORG, incident, sequence, event) for incident, event in events]
    assert await apply_events(desk.db, desk.effects, arrivals) == [Result.APPLIED] * len(events)


async def acknowledge(desk: Desk, notify: Notify, incident: UUID, via: str = "sms", etag: str = "") -> str:
    """As the RPC does; the incident that was acknowledged."""
    request = pb.AcknowledgeIncidentRequest(name=f"incidents/{incident}", via=via, etag=etag)
    step = Step(incident, Acknowledged(ANA, via), etag, answers=bool(via) and not etag)
    response = await Commands(desk.db, desk.effects, notify, Ingest()).one(
        IdempotentCall(ORG, "AcknowledgeIncident", request, pb.AcknowledgeIncidentResponse),
        step,
        lambda done: pb.AcknowledgeIncidentResponse(incident=mapping.incident(done.run)),
    )
    return response.incident.name


async def words(desk: Desk, incident: UUID) -> list[str]:
    async with desk.db.transaction(ORG) as tx:
        return [entry.message for entry in await timeline.page(tx, incident, 0, 500)]
