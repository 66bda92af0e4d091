"""What ingest says became of incidents: the way escalations begin and end."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app import turning
from tocsin_escalation.app.advance import Known, OrgTarget, Step, advance, following
from tocsin_escalation.app.effects import Effects
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import AlertsAdded, Event, Resolved, Started
from tocsin_escalation.domain.policy import Directory, Policy
from tocsin_escalation.store import escalations, policies


class Result(StrEnum):
    """How an event went; IncidentEventResult's values."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    UNKNOWN_INCIDENT = "unknown_incident"
    BUSY = "busy"


Policies = Mapping[tuple[str, str], Policy]
"""By tenant and id."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The first event of an incident, or one that stands for all events before it (`anew_because` says why).

    `policy` is the id routing chose, empty for none. `over_by`: it is resolved by now. `left_out`: see `Started`.
    """

    facts: Facts
    policy: str
    anew_because: str = ""
    over_by: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it came. `sequence` counts from 1 within the incident."""

    org_id: str
    incident_id: UUID
    sequence: int
    event: Opening | Event


@dataclass(frozen=True, slots=True)
class Placed:
    """An arrival and where it stands in its incident's order. `starts`: it is applied, and the first of its incident."""

    arrival: Arrival
    result: Result
    starts: bool = False


class _Held(Exception):
    """Another transaction takes turns of policies on which these incidents may page: what is locked for them is let go."""

    def __init__(self, incidents: Collection[UUID]) -> None:
        self.incidents = incidents


async def apply_events(db: Database, effects: Effects, arrivals: Sequence[Arrival]) -> list[Result]:
    """Apply events, idempotent by their incident's own numbers; all of them in one transaction.

    It never waits for a turn: incidents whose policy is taking one elsewhere are left out (BUSY), since a replica that stands
    still inside its transaction would hold up the openings of every tenant.
    """
    busy = set[UUID]()
    while left := [each for each in arrivals if each.incident_id not in busy]:
        try:
            results = iter(await _apply(db, effects, left))
        except _Held as held:
            busy.update(held.incidents)
        else:
            return [Result.BUSY if each.incident_id in busy else next(results) for each in arrivals]
    return [Result.BUSY] * len(arrivals)


async def _apply(db: Database, effects: Effects, arrivals: Sequence[Arrival]) -> list[Result]:
    async def work(tx: Tx) -> list[Result]:
        runs = await _lock(tx, arrivals)
        placed = _place_all(arrivals, runs)
        applied = [each for each in placed if each.result is Result.APPLIED]
        if applied:
            found = await _policies(tx, [each.arrival for each in applied if each.starts])
            going_on = [_step(each, found, {}) for each in applied if not each.starts]
            followed = following(going_on, runs)
            going_on += followed
            taking = await turning.lock_for(tx, _running(applied, going_on, found, runs), wait=False)
            if taking.held:
                raise _Held(taking.held)
            starting = [(org_id, policy) for (org_id, _), policy in found.items()]
            known = await Known.read(
                tx,
                runs,
                going_on,
                _targets(found, runs.values()),
                starting=starting,
                ahead=taking.ahead,
                locked=taking.locked,
            )
            steps = [_step(each, found, known.people) for each in applied]
            await advance(tx, [*steps, *followed], effects, known, entries=False)
        return [each.result for each in placed]

    return await db.run(None, work)


def _running(
    applied: Sequence[Placed], going_on: Sequence[Step], found: Policies, runs: Mapping[UUID, Escalation]
) -> dict[UUID, list[tuple[str, Policy]]]:
    """The policies on which each incident may page by these events. One that starts may take its own or the tenant's fallback."""
    running = turning.running_of(going_on, runs)
    for arrival in (each.arrival for each in applied if each.starts):
        named = (arrival.event.policy, "") if isinstance(arrival.event, Opening) else ()
        policies_ = [found.get((arrival.org_id, id_)) for id_ in dict.fromkeys(named)]
        running.setdefault(arrival.incident_id, []).extend((arrival.org_id, each) for each in policies_ if each)
    return running


async def _lock(tx: Tx, arrivals: Sequence[Arrival]) -> dict[UUID, Escalation]:
    """The incidents' escalations, locked. Those that begin with one of these events are inserted."""
    first = {a.incident_id: a for a in reversed(arrivals) if _opens(a)}
    new = await escalations.insert(tx, [_blank(a) for a in first.values()])
    runs = {id_: _blank(first[id_]) for id_ in new}
    if old := sorted({a.incident_id for a in arrivals} - new):
        runs |= await escalations.lock(tx, old, kin=True)
    return runs


def _place_all(arrivals: Sequence[Arrival], runs: Mapping[UUID, Escalation]) -> list[Placed]:
    last = {id_: run.last_sequence for id_, run in runs.items()}
    placed = []
    for arrival in arrivals:
        run = runs.get(arrival.incident_id)
        if run is None or run.org_id != arrival.org_id:
            placed.append(Placed(arrival, Result.UNKNOWN_INCIDENT))
            continue
        before = last[arrival.incident_id]
        result = _place(arrival, before)
        if result is Result.APPLIED:
            last[arrival.incident_id] = arrival.sequence
        placed.append(Placed(arrival, result, starts=result is Result.APPLIED and before == 0))
    return placed


def _step(placed: Placed, found: Policies, people: Mapping[str, Directory]) -> Step:
    arrival, event = placed.arrival, placed.arrival.event
    if isinstance(event, Opening):
        event = _choose(arrival, event, found, people) if placed.starts else _catch_up(event)
    return Step(arrival.incident_id, event, sequence=arrival.sequence, org_id=arrival.org_id)


def _opens(arrival: Arrival) -> bool:
    """Whether an unknown incident may begin with this event."""
    event = arrival.event
    return isinstance(event, Opening) and (arrival.sequence == 1 or (arrival.sequence > 1 and bool(event.anew_because)))


def _place(arrival: Arrival, last: int) -> Result:
    """Where an event stands in its incident's order.

    A resolve may come before what was still on its way, and what stands for all events before it waits for none of them.
    """
    event = arrival.event
    if arrival.sequence <= last:
        return Result.DUPLICATE
    if arrival.sequence == last + 1 and (last > 0 or isinstance(event, Opening)):
        return Result.APPLIED
    stands_alone = isinstance(event, Opening) and bool(event.anew_because)
    if stands_alone or (last > 0 and isinstance(event, Resolved)):
        return Result.APPLIED
    return Result.OUT_OF_ORDER


def _catch_up(opening: Opening) -> Event:
    """What an opening says of an incident that is known: no user is paged again."""
    if opening.over_by:
        return Resolved(opening.over_by, opening.anew_because)
    facts = opening.facts
    return AlertsAdded(facts.alert_count, facts.severity, facts.title, new_keys=0)


async def _policies(tx: Tx, fresh: Sequence[Arrival]) -> Policies:
    """The policies new incidents ask for, and their tenants' fallbacks under an empty id."""
    if not fresh:
        return {}
    openings = [(a.org_id, a.event.policy) for a in fresh if isinstance(a.event, Opening)]
    wanted = {(org_id, policy) for org_id, policy in openings if policy}
    return await policies.usable(tx, wanted, {org_id for org_id, _ in openings})


def _targets(found: Policies, runs: Iterable[Escalation]) -> list[OrgTarget]:
    """Everybody whom these policies, and those already running, could page."""
    named = [(org_id, target) for (org_id, _), policy in found.items() for target in policy.targets()]
    return named + [(run.org_id, target) for run in runs if run.policy for target in run.policy.targets()]


def _choose(arrival: Arrival, opening: Opening, found: Policies, people: Mapping[str, Directory]) -> Started:
    named = found.get((arrival.org_id, opening.policy)) if opening.policy else None
    fallback = found.get((arrival.org_id, ""))
    started = choose(opening.policy, named, fallback, people.get(arrival.org_id, Directory()))
    return replace(started, anew_because=opening.anew_because, over_by=opening.over_by, left_out=opening.left_out)


def _blank(arrival: Arrival) -> Escalation:
    assert isinstance(arrival.event, Opening), "only openings are inserted"
    return Escalation(arrival.org_id, arrival.incident_id, arrival.event.facts, version=0)
