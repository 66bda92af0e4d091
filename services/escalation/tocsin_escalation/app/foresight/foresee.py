"""What would happen if no person answers: reads the people and schedules once, and applies the rules of the domain."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.logging import get_logger

from tocsin_escalation.app.computing import Computations, compute, in_transaction
from tocsin_escalation.app.incidents import next_policies, round_robin
from tocsin_escalation.app.people.reach import Reaching
from tocsin_escalation.app.schedules import reading
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import Event
from tocsin_escalation.domain.on_call import on_call_at
from tocsin_escalation.domain.policy import Directory, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.questions import users_of
from tocsin_escalation.domain.simulate import HORIZON, Plan, simulate
from tocsin_escalation.store.incidents import escalations, turns
from tocsin_escalation.store.people import directory, policies
from tocsin_escalation.store.schedules import on_call
from tocsin_escalation.store.schedules.on_call import LOOK_AHEAD, LOOK_BACK

_log = get_logger(__name__)

FARTHEST: Final = timedelta(days=92)
"""From now, in either direction."""


@dataclass(frozen=True, slots=True)
class People:
    """The people of some policies, and when each is on call or away."""

    base: Directory
    schedules: dict[str, Schedule]
    away: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def at(self, time: datetime) -> Directory:
        """In the form that decisions use, at an instant."""
        minute = minute_of(time)
        found = {id: on_call_at(schedule, minute) for id, schedule in self.schedules.items()}
        away = frozenset(
            user for user, times in self.away.items() if any(start <= minute < end for start, end in times)
        )
        return replace(self.base, schedules=found, away=away)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A plan. `reachability_known`: notify has answered; otherwise all users count as reachable."""

    plan: Plan
    reachability_known: bool


async def people(
    tx: Tx, wanted: Iterable[Policy], since: datetime, until: datetime, computations: Computations
) -> People:
    """All users whom these policies may page within [since, until)."""
    wanted = list(wanted)
    ahead = await next_policies.load(tx, [(tx.org_id, policy) for policy in wanted])
    wanted += ahead.values()
    named = list(dict.fromkeys(target for policy in wanted for target in policy.targets()))
    keys = [(tx.org_id, target.id) for target in named if target.kind is TargetKind.SCHEDULE]
    schedules = await reading.load(tx, keys, since - LOOK_BACK, until + LOOK_AHEAD, computations)
    named += [Target(TargetKind.USER, user) for schedule in schedules.values() for user in users_of(schedule)]
    found = await directory.load_people(tx, [(tx.org_id, target) for target in dict.fromkeys(named)])
    base = replace(found.get(tx.org_id, Directory()), policies=next_policies.of_tenant(ahead, tx.org_id))
    by_id = {id: schedule for (_, id), schedule in schedules.items()}
    turn_keys = round_robin.of_policies((tx.org_id, policy) for policy in wanted)
    if not turn_keys:
        return People(base, by_id)
    had = {id: users for (_, id), users in (await turns.read(tx, turn_keys)).items()}
    gone = await on_call.people_gone(tx, [(tx.org_id, user) for user in sorted(base.users)], since, until)
    return People(replace(base, turns=had), by_id, gone[tx.org_id].times() if gone else {})


async def on_policy(
    db: Database, notify: Reaching, org_id: str, id: str, start: datetime | None, severity: int
) -> Foreseen:
    """A new incident that routing gives to this policy. Raises POLICY_NOT_FOUND, INVALID_FIELD."""

    async def look(tx: Tx, computations: Computations) -> SimulatedIncident:
        begins = begin(await tx.now(), start, "start_time")
        row = await policies.get(tx, id)
        if row is None:
            raise not_found(reasons.ERROR_REASON_POLICY_NOT_FOUND, f"policies/{id}")
        return await open_on(tx, id, row.policy, begins, _facts(severity, begins), computations)

    opening = await in_transaction(db, org_id, look)
    unreachable, known = await unreachable_of(notify, org_id, opening.there)
    return Foreseen(await opening.play(unreachable), known)


async def of_opening(
    db: Database, notify: Reaching, org_id: str, policy: str, facts: Facts, start: datetime | None
) -> Foreseen:
    """A new incident, also of an unknown policy or of none (empty). Raises INVALID_FIELD about `time`."""

    async def look(tx: Tx, computations: Computations) -> SimulatedIncident:
        begins = begin(await tx.now(), start, "time")
        row = await policies.get(tx, policy) if policy else None
        known = row.policy if row else None
        return await open_on(tx, policy, known, begins, replace(facts, create_time=begins), computations)

    opening = await in_transaction(db, org_id, look)
    unreachable, known = await unreachable_of(notify, org_id, opening.there)
    return Foreseen(await opening.play(unreachable), known)


@dataclass(frozen=True, slots=True)
class SimulatedIncident:
    """A new incident that routing gives to the policy `wanted`; not simulated yet."""

    org_id: str
    wanted: str
    policy: Policy | None
    fallback: Policy | None
    facts: Facts
    begins: datetime
    there: People

    async def play(self, unreachable: Mapping[str, str]) -> Plan:
        """Simulate it to its end. In a thread: resolving weeks of many schedules takes longer than other calls may wait."""
        return await compute(self.org_id, self._play, unreachable)

    def _play(self, unreachable: Mapping[str, str]) -> Plan:
        now = self.there.at(self.begins)
        started = choose(self.wanted, self.policy, self.fallback, now, self.facts.severity, self.begins)
        run = Escalation(self.org_id, UUID(int=0), self.facts)
        return simulate(run, started, self.begins, self.there.at, unreachable)


def begin(now: datetime, start: datetime | None, field: str) -> datetime:
    """When a new incident begins; now if no time is given. Raises INVALID_FIELD about `field`."""
    begins = start or now
    if abs(begins - now) > FARTHEST:
        raise invalid(field, f"must be at most {FARTHEST.days} days from now")
    return begins


async def on_draft(
    tx: Tx, computations: Computations, *, policy: Policy, begins: datetime, severity: int
) -> SimulatedIncident:
    """A new incident on this policy, saved or not."""
    return await open_on(tx, policy.id, policy, begins, _facts(severity, begins), computations)


def _facts(severity: int, begins: datetime) -> Facts:
    return Facts("a simulated incident", "", severity, "", begins)


async def open_on(
    tx: Tx, wanted: str, policy: Policy | None, begins: datetime, facts: Facts, computations: Computations
) -> SimulatedIncident:
    """A new incident that routing gives to the policy `wanted`, empty for none; `policy` is that policy if it exists."""
    fallback = (await policies.usable(tx, set(), {tx.org_id})).get((tx.org_id, ""))
    used = [each for each in (policy, fallback) if each is not None]
    there = await people(tx, used, begins, begins + HORIZON, computations)
    return SimulatedIncident(tx.org_id, wanted, policy, fallback, facts, begins, there)


async def of_incident(db: Database, notify: Reaching, org_id: str, id: UUID, event: Event | None = None) -> Foreseen:
    """An incident from its present state, or after an event that comes now. Raises INCIDENT_NOT_FOUND."""

    async def look(tx: Tx, computations: Computations) -> tuple[Escalation, datetime, People]:
        row = await escalations.get(tx, id)
        if row is None:
            raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id}")
        now = await tx.now()
        used = [row.run.policy] if row.run.policy else []
        return row.run, now, await people(tx, used, now, now + HORIZON, computations)

    return await play_on(notify, *await in_transaction(db, org_id, look), event)


async def play_on(
    notify: Reaching, run: Escalation, now: datetime, there: People, event: Event | None = None
) -> Foreseen:
    """This run from its present state, or after an event that comes now."""
    unreachable, known = await unreachable_of(notify, run.org_id, there)
    return Foreseen(await compute(run.org_id, simulate, run, event, now, there.at, unreachable), known)


async def unreachable_of(notify: Reaching, org_id: str, *there: People) -> tuple[dict[str, str], bool]:
    """The reason, by user, for those of these people to whom no page can be sent; and whether notify has answered."""
    users = sorted(frozenset[str]().union(*(each.base.users for each in there)))
    try:
        return await notify.unreachable(org_id, users) if users else {}, True
    except TocsinError as error:
        _log.warning("reachability_unknown", org_id=org_id, error=error.message)
        return {}, False
