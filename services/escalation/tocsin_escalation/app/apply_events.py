"""What ingest says became of incidents: the way escalations begin and end."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app.advance import Step, advance
from tocsin_escalation.app.effects import Effects
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import Event, Resolved
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.store import directory, escalations, policies


class Result(StrEnum):
    """How an event went; IncidentEventResult's values."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"


@dataclass(frozen=True, slots=True)
class Opening:
    """The first event of an incident. `policy` is the id routing chose, empty for none."""

    facts: Facts
    policy: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it came. `sequence` counts from 1 within the incident."""

    org_id: str
    incident_id: UUID
    sequence: int
    event: Opening | Event


async def apply_events(db: Database, effects: Effects, arrivals: Sequence[Arrival]) -> list[Result]:
    """Apply events, idempotent by their incident's own numbers; all of them in one transaction."""

    async def work(tx: Tx) -> list[Result]:
        started = await _open(tx, [a for a in arrivals if isinstance(a.event, Opening)])
        known = await escalations.lock(tx, sorted({arrival.incident_id for arrival in arrivals}))
        last = {id_: run.last_sequence for id_, run in known.items()}
        results: list[Result] = []
        steps: list[Step] = []
        for arrival in arrivals:
            seen = last.get(arrival.incident_id)
            event = started.get(arrival.incident_id) if isinstance(arrival.event, Opening) else arrival.event
            if seen is None:
                results.append(Result.OUT_OF_ORDER)
            elif arrival.sequence <= seen:
                results.append(Result.DUPLICATE)
            # A resolve may come before what was still on its way: a person's resolve is applied at once.
            elif arrival.sequence > seen + 1 and not isinstance(event, Resolved):
                results.append(Result.OUT_OF_ORDER)
            else:
                last[arrival.incident_id] = arrival.sequence
                results.append(Result.APPLIED)
                if event is not None:
                    steps.append(Step(arrival.incident_id, event, sequence=arrival.sequence))
        if steps:
            await advance(tx, steps, effects, known)
        return results

    return await db.run(None, work)


async def _open(tx: Tx, openings: Sequence[Arrival]) -> dict[UUID, Event]:
    """Insert the new incidents among these and choose what each runs on."""
    new = await escalations.insert(tx, [_blank(arrival) for arrival in openings])
    fresh = [(a, a.event) for a in openings if a.incident_id in new and isinstance(a.event, Opening)]
    if not fresh:
        return {}
    wanted = {(arrival.org_id, opening.policy) for arrival, opening in fresh if opening.policy}
    found = await policies.usable(tx, wanted, {arrival.org_id for arrival, _ in fresh})
    named = [(org, target) for (org, _), policy in found.items() for target in policy.targets()]
    people = await directory.load(tx, named)
    return {
        arrival.incident_id: choose(
            opening.policy,
            found.get((arrival.org_id, opening.policy)) if opening.policy else None,
            found.get((arrival.org_id, "")),
            people.get(arrival.org_id, Directory()),
        )
        for arrival, opening in fresh
    }


def _blank(arrival: Arrival) -> Escalation:
    assert isinstance(arrival.event, Opening), "only openings are inserted"
    return Escalation(arrival.org_id, arrival.incident_id, arrival.event.facts)
