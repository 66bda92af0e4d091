"""Incident events from ingest: they start and end escalations."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.bisection import TransactionLost, lock_then_run
from tocsin_escalation.app.incidents import round_robin, shared_transactions
from tocsin_escalation.app.incidents.advance import Overtaken, advance, steps_of_merged
from tocsin_escalation.app.incidents.decision_data import DecisionData, Step
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.notices import unresolved
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import AlertsAdded, Event, Resolved, Started
from tocsin_escalation.domain.policy import Directory, Policy
from tocsin_escalation.store.incidents import escalations
from tocsin_escalation.store.people import policies

_log = get_logger(__name__)

_MOST_TRANSACTIONS: Final = 24
"""Transactions of one call. Events that are left then are BUSY, and are sent again within a moment."""


class Result(StrEnum):
    """The result of an event; IncidentEventResult's values."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    UNKNOWN_INCIDENT = "unknown_incident"
    BUSY = "busy"


Policies = Mapping[tuple[str, str], Policy]
"""By tenant and id."""
_Chosen = tuple[str, str, int]
"""The tenant, the requested policy and the severity: the choice of a policy depends on these within a transaction."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The first event of an incident, or one that stands for all events before it (`anew_because` says why).

    `policy` is the id routing chose, empty for none. `resolved_by`: it is resolved already. `left_out`: see `Started`.
    """

    facts: Facts
    policy: str
    anew_because: str = ""
    resolved_by: str = ""
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
    """An event and its place in its incident's order. `starts`: it is applied, and is the first of its incident."""

    arrival: Arrival
    result: Result
    starts: bool = False


class _Left(Exception):
    """Incidents that this transaction does not decide: their locks are released.

    `held`: another transaction holds the turns of policies on which they may page.
    `apart`: they may page too many schedules for this transaction (`app.incidents.shared_transactions`).
    """

    def __init__(self, held: Collection[UUID], apart: Collection[UUID]) -> None:
        self.held = held
        self.apart = apart


async def apply_events(db: Database, effects: Effects, arrivals: Sequence[Arrival]) -> list[Result]:
    """Apply events, idempotent by the numbers within their incident; in one transaction, unless that delays other incidents.

    It never waits for turns. Incidents whose policy's turns are held by another transaction are left out (BUSY): a replica that
    is stopped inside its transaction would delay the openings of every tenant. Incidents of policies that name many schedules
    (`shared_transactions`) do not delay the others: they are decided after them, and are BUSY when there are many. Raises
    DATABASE_UNAVAILABLE, CONFLICT.
    """
    results: dict[int, Result] = {}
    waiting = deque([tuple(range(len(arrivals)))])
    for _ in range(_MOST_TRANSACTIONS):
        if not waiting:
            break
        places = waiting.popleft()
        given = [arrivals[at] for at in places]
        try:
            results |= dict(zip(places, await _apply_or_less(db, effects, given), strict=True))
        except _Left as left:
            held = {at for at in places if arrivals[at].incident_id in left.held}
            apart = {at for at in places if arrivals[at].incident_id in left.apart} - held
            results |= dict.fromkeys(held, Result.BUSY)
            if rest := tuple(at for at in places if at not in held | apart):
                waiting.appendleft(rest)
            if apart:
                waiting.append(tuple(sorted(apart)))
        except Overtaken:
            waiting.appendleft(places)  # their rows exist now, as the other transaction wrote them
        except TransactionLost:
            _log.exception("events_batch_lost", events=len(given))
            waiting.extend(_bisected(places, arrivals))
    return [results.get(at, Result.BUSY) for at in range(len(arrivals))]


def _bisected(places: Sequence[int], arrivals: Sequence[Arrival]) -> list[tuple[int, ...]]:
    """Two parts; all events of an incident are in the same part."""
    incidents = list(dict.fromkeys(arrivals[at].incident_id for at in places))
    first = set(incidents[: len(incidents) // 2])
    return [tuple(at for at in places if (arrivals[at].incident_id in first) is half) for half in (True, False)]


async def _apply_or_less(db: Database, effects: Effects, arrivals: Sequence[Arrival]) -> list[Result]:
    """`_apply`, for one incident as often as that may help; without its schedules if the database ended it twice.

    Schedules cost more than anything else of an incident. Its policy then uses users and teams only; if it names none, the
    tenant's fallback policy is used. Raises _Left and Overtaken, TransactionLost for several incidents, and CONFLICT when no
    attempt succeeded.
    """
    try:
        return await _apply(db, effects, arrivals)
    except TransactionLost:
        if len({arrival.incident_id for arrival in arrivals}) > 1:
            raise
    for most_schedules in (shared_transactions.MOST_LOOKED_AT, 0):
        try:
            return await _apply(db, effects, arrivals, most_schedules)
        except TransactionLost as error:
            _log.exception("event_lost", org_id=arrivals[0].org_id, incident=str(arrivals[0].incident_id))
            lost = error
    # It is not reported as "database unavailable": the relay would send it first again and again, with all others behind it. It
    # is not reported as a defect either: the event would be given up within two seconds, although a server in trouble ends the
    # transactions of any event.
    raise TocsinError(
        reasons.ERROR_REASON_CONFLICT, "the database ended each transaction that applied this event"
    ) from lost


async def _apply(
    db: Database,
    effects: Effects,
    arrivals: Sequence[Arrival],
    most_schedules: int = shared_transactions.MOST_LOOKED_AT,
) -> list[Result]:
    """Raises _Left, Overtaken and TransactionLost; in each case nothing was changed."""

    async def work(tx: Tx, locked: tuple[dict[UUID, Escalation], frozenset[str] | None]) -> list[Result]:
        runs, feed_tenants = locked
        placed = _place_all(arrivals, runs)
        applied = [each for each in placed if each.result is Result.APPLIED]
        if applied:
            found = await _policies(tx, [each.arrival for each in applied if each.starts])
            going_on = [_step(each, found, {}, None, {}) for each in applied if not each.starts]
            of_merged = steps_of_merged(going_on, runs)
            going_on += of_merged
            taking = await round_robin.lock_for(tx, _running(applied, going_on, found, runs), wait=False)
            if taking.held or taking.apart:
                raise _Left(_because_of(taking.held, arrivals, runs), _because_of(taking.apart, arrivals, runs))
            starting = [(org_id, policy) for (org_id, _), policy in found.items()]
            known = await DecisionData.read(
                tx,
                runs,
                going_on,
                starting=starting,
                taking=taking,
                most_schedules=most_schedules,
                feed_tenants=feed_tenants,
            )
            now = await tx.now()
            started = dict[_Chosen, Started]()
            steps = [_step(each, found, known.people, now, started) for each in applied]
            await advance(tx, [*steps, *of_merged], effects, known, entries=False)
            await unresolved.plan(tx, _opened(steps), now)
        return [each.result for each in placed]

    return await lock_then_run(db, None, lambda tx: _lock(tx, arrivals), work)


def _opened(steps: Sequence[Step]) -> Iterator[tuple[str, UUID, Policy | None]]:
    """The incidents that start with one of these events and are not resolved already."""
    for step in steps:
        if isinstance(step.event, Started) and not step.event.resolved_by:
            yield step.org_id, step.incident_id, step.event.policy


def _because_of(
    left: Collection[UUID], arrivals: Sequence[Arrival], runs: Mapping[UUID, Escalation]
) -> frozenset[UUID]:
    """The incidents of these events that are left, or whose events also affect a merged incident that is left."""
    kin = {id for id in left if id in runs}
    into = {runs[id].merged_into for id in kin}
    return frozenset(
        id
        for id in {arrival.incident_id for arrival in arrivals}
        if id in left or id in into or (id in runs and runs[id].merged_into in kin)
    )


def _running(
    applied: Sequence[Placed], going_on: Sequence[Step], found: Policies, runs: Mapping[UUID, Escalation]
) -> dict[UUID, list[tuple[str, Policy]]]:
    """The policies on which each incident may page by these events. An incident that starts may use its own policy or the
    tenant's fallback."""
    running = round_robin.running_of(going_on, runs)
    for arrival in (each.arrival for each in applied if each.starts):
        named = (arrival.event.policy, "") if isinstance(arrival.event, Opening) else ()
        policies_ = [found.get((arrival.org_id, id)) for id in dict.fromkeys(named)]
        running.setdefault(arrival.incident_id, []).extend((arrival.org_id, each) for each in policies_ if each)
    return running


async def _lock(tx: Tx, arrivals: Sequence[Arrival]) -> tuple[dict[UUID, Escalation], frozenset[str] | None]:
    """The incidents' escalations, locked; and as version 0 those that start with one of these events. The latter are inserted
    after their first steps, and only then it shows whether another transaction was faster (`Overtaken`).

    It also returns the tenants that have a feed, if they were read.
    """
    first = {a.incident_id: a for a in reversed(arrivals) if _opens(a)}
    old, feed_tenants = {a.incident_id for a in arrivals} - first.keys(), None
    if first:
        present, feed_tenants = await escalations.present(tx, list(first), {a.org_id for a in arrivals})
        old |= present
    runs = {id: _blank(arrival) for id, arrival in first.items() if id not in old}
    if old:
        runs |= await escalations.lock(tx, sorted(old), kin=True)
    return runs, feed_tenants


def _place_all(arrivals: Sequence[Arrival], runs: Mapping[UUID, Escalation]) -> list[Placed]:
    last = {id: run.last_sequence for id, run in runs.items()}
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


def _step(
    placed: Placed,
    found: Policies,
    people: Mapping[str, Directory],
    now: datetime | None,
    started: dict[_Chosen, Started],
) -> Step:
    """`now`: for incidents that start. `started`: the policies that this transaction has chosen."""
    arrival, event = placed.arrival, placed.arrival.event
    if isinstance(event, Opening):
        event = _choose(arrival, event, found, people, now, started) if placed.starts and now else _catch_up(event)
    return Step(arrival.incident_id, event, sequence=arrival.sequence, org_id=arrival.org_id)


def _opens(arrival: Arrival) -> bool:
    """Whether an unknown incident may start with this event."""
    event = arrival.event
    return isinstance(event, Opening) and (arrival.sequence == 1 or (arrival.sequence > 1 and bool(event.anew_because)))


def _place(arrival: Arrival, last: int) -> Result:
    """The place of an event in its incident's order.

    A resolve may arrive before earlier events, and an event that stands for all earlier ones waits for none of them.
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
    """Applies an opening to a known incident: no user is paged again."""
    if opening.resolved_by:
        return Resolved(opening.resolved_by, opening.anew_because)
    facts = opening.facts
    return AlertsAdded(facts.alert_count, facts.severity, facts.title, new_keys=0)


async def _policies(tx: Tx, fresh: Sequence[Arrival]) -> Policies:
    """The policies that new incidents ask for, and the tenants' fallbacks under an empty id."""
    if not fresh:
        return {}
    openings = [(a.org_id, a.event.policy) for a in fresh if isinstance(a.event, Opening)]
    wanted = {(org_id, policy) for org_id, policy in openings if policy}
    return await policies.usable(tx, wanted, {org_id for org_id, _ in openings})


def _choose(
    arrival: Arrival,
    opening: Opening,
    found: Policies,
    people: Mapping[str, Directory],
    now: datetime,
    started: dict[_Chosen, Started],
) -> Started:
    wanted = (arrival.org_id, opening.policy, opening.facts.severity)
    if wanted not in started:
        named = found.get((arrival.org_id, opening.policy)) if opening.policy else None
        fallback = found.get((arrival.org_id, ""))
        directory = people.get(arrival.org_id, Directory())
        started[wanted] = choose(opening.policy, named, fallback, directory, opening.facts.severity, now)
    chosen = started[wanted]
    if opening.anew_because or opening.resolved_by or opening.left_out:
        return replace(
            chosen, anew_because=opening.anew_because, resolved_by=opening.resolved_by, left_out=opening.left_out
        )
    return chosen


def _blank(arrival: Arrival) -> Escalation:
    assert isinstance(arrival.event, Opening), "only openings are inserted"
    return Escalation(arrival.org_id, arrival.incident_id, arrival.event.facts, version=0)
