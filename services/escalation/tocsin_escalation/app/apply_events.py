"""What ingest says became of incidents: the way escalations begin and end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app.advance import Known, Step, advance
from tocsin_escalation.app.effects import Effects
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import Event, Resolved, Started
from tocsin_escalation.domain.policy import Directory, Policy, Target
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
        new = await escalations.insert(tx, [_blank(a) for a in arrivals if isinstance(a.event, Opening)])
        runs = {a.incident_id: _blank(a) for a in arrivals if a.incident_id in new and isinstance(a.event, Opening)}
        old = sorted({a.incident_id for a in arrivals} - runs.keys())
        if old:
            runs |= await escalations.lock(tx, old)
        found = await _policies(tx, [a for a in arrivals if a.incident_id in new])
        people = await directory.load(tx, _people(found, runs.values()))
        last = {id_: run.last_sequence for id_, run in runs.items()}
        results, steps = list[Result](), list[Step]()
        for arrival in arrivals:
            result = _place(arrival, last.get(arrival.incident_id))
            results.append(result)
            if result is Result.APPLIED:
                last[arrival.incident_id] = arrival.sequence
                event = arrival.event
                if isinstance(event, Opening):
                    event = _choose(arrival, event, found, people)
                steps.append(Step(arrival.incident_id, event, sequence=arrival.sequence))
        if steps:
            await advance(tx, steps, effects, Known(runs, people))
        return results

    return await db.run(None, work)


def _place(arrival: Arrival, last: int | None) -> Result:
    """Where an event stands in its incident's order. A resolve may come before what was still on its way."""
    if last is None:
        return Result.OUT_OF_ORDER
    if arrival.sequence <= last:
        return Result.DUPLICATE
    if arrival.sequence > last + 1 and not isinstance(arrival.event, Resolved):
        return Result.OUT_OF_ORDER
    return Result.APPLIED


Policies = Mapping[tuple[str, str], Policy]


async def _policies(tx: Tx, fresh: Sequence[Arrival]) -> Policies:
    """The policies new incidents ask for, and their tenants' fallbacks under an empty id."""
    if not fresh:
        return {}
    openings = [(a.org_id, a.event.policy) for a in fresh if isinstance(a.event, Opening)]
    wanted = {(org_id, policy) for org_id, policy in openings if policy}
    return await policies.usable(tx, wanted, {org_id for org_id, _ in openings})


def _people(found: Policies, runs: Iterable[Escalation]) -> list[tuple[str, Target]]:
    """Everybody whom these policies, and those already running, could page."""
    named = [(org_id, target) for (org_id, _), policy in found.items() for target in policy.targets()]
    return named + [(run.org_id, target) for run in runs if run.policy for target in run.policy.targets()]


def _choose(arrival: Arrival, opening: Opening, found: Policies, people: Mapping[str, Directory]) -> Started:
    named = found.get((arrival.org_id, opening.policy)) if opening.policy else None
    fallback = found.get((arrival.org_id, ""))
    return choose(opening.policy, named, fallback, people.get(arrival.org_id, Directory()))


def _blank(arrival: Arrival) -> Escalation:
    assert isinstance(arrival.event, Opening), "only openings are inserted"
    return Escalation(arrival.org_id, arrival.incident_id, arrival.event.facts, version=0)
