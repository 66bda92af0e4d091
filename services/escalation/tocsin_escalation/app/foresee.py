"""What would happen if nobody answers: reads the people and schedules once, and plays by the rules of the domain."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.logging import get_logger

from tocsin_escalation.app import turning
from tocsin_escalation.app.reach import Reaching
from tocsin_escalation.domain.choice import choose
from tocsin_escalation.domain.escalation import Escalation, Facts
from tocsin_escalation.domain.events import Started
from tocsin_escalation.domain.on_call import on_call_at
from tocsin_escalation.domain.policy import Directory, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.questions import users_of
from tocsin_escalation.domain.simulate import HORIZON, Plan, simulate
from tocsin_escalation.store import directory, escalations, on_call, policies, turns
from tocsin_escalation.store.on_call import LOOK_AHEAD, LOOK_BACK

log = get_logger(__name__)

FARTHEST = timedelta(days=92)
"""From now, in either direction."""


@dataclass(frozen=True, slots=True)
class People:
    """The people behind some policies, and who of them is on call, and away, when."""

    base: Directory
    schedules: dict[str, Schedule]
    away: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def at(self, time: datetime) -> Directory:
        """As decisions take them, at an instant."""
        minute = minute_of(time)
        found = {id_: on_call_at(schedule, minute) for id_, schedule in self.schedules.items()}
        away = frozenset(
            user for user, times in self.away.items() if any(start <= minute < end for start, end in times)
        )
        return replace(self.base, schedules=found, away=away)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A plan. `reachability_known`: notify has answered; otherwise everybody is taken to be reachable."""

    plan: Plan
    reachability_known: bool


async def people(tx: Tx, wanted: Iterable[Policy], since: datetime, until: datetime) -> People:
    """Everybody these policies may page within [since, until)."""
    wanted = list(wanted)
    named = list(dict.fromkeys(target for policy in wanted for target in policy.targets()))
    keys = [(tx.org_id, target.id) for target in named if target.kind is TargetKind.SCHEDULE]
    schedules = await on_call.load(tx, keys, since - LOOK_BACK, until + LOOK_AHEAD)
    named += [Target(TargetKind.USER, user) for schedule in schedules.values() for user in users_of(schedule)]
    found = await directory.load_people(tx, [(tx.org_id, target) for target in dict.fromkeys(named)])
    base, by_id = found.get(tx.org_id, Directory()), {id_: schedule for (_, id_), schedule in schedules.items()}
    turn_keys = turning.of_policies((tx.org_id, policy) for policy in wanted)
    if not turn_keys:
        return People(base, by_id)
    had = {id_: users for (_, id_), users in (await turns.read(tx, turn_keys)).items()}
    gone = await on_call.people_gone(tx, [(tx.org_id, user) for user in sorted(base.users)], since, until)
    return People(replace(base, turns=had), by_id, gone[tx.org_id].times() if gone else {})


async def on_policy(
    db: Database, notify: Reaching, org_id: str, id_: str, start: datetime | None, severity: int
) -> Foreseen:
    """A new incident that routing gives to this policy. Raises POLICY_NOT_FOUND, INVALID_FIELD."""
    async with db.transaction(org_id) as tx:
        now = await tx.now()
        begins = start or now
        if abs(begins - now) > FARTHEST:
            raise invalid("start_time", f"must be at most {FARTHEST.days} days from now")
        usable = await policies.usable(tx, {(org_id, id_)}, {org_id})
        named, fallback = usable.get((org_id, id_)), usable.get((org_id, ""))
        if named is None:
            raise not_found(reasons.ERROR_REASON_POLICY_NOT_FOUND, f"policies/{id_}")
        there = await people(tx, [named, fallback] if fallback else [named], begins, begins + HORIZON)
    run = Escalation(org_id, UUID(int=0), Facts("a simulated incident", "", severity, "", begins))
    return await _play(notify, run, choose(id_, named, fallback, there.at(begins)), begins, there)


async def of_incident(db: Database, notify: Reaching, org_id: str, id_: UUID) -> Foreseen:
    """An incident, from where it is. Raises INCIDENT_NOT_FOUND."""
    async with db.transaction(org_id) as tx:
        row = await escalations.get(tx, id_)
        if row is None:
            raise not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{id_}")
        now = await tx.now()
        there = await people(tx, [row.run.policy] if row.run.policy else [], now, now + HORIZON)
    return await play_on(notify, row.run, now, there)


async def play_on(notify: Reaching, run: Escalation, now: datetime, there: People) -> Foreseen:
    """This run, from where it is."""
    return await _play(notify, run, None, now, there)


async def _play(notify: Reaching, run: Escalation, event: Started | None, start: datetime, there: People) -> Foreseen:
    users = sorted(there.base.users)
    try:
        unreachable, known = await notify.unreachable(run.org_id, users) if users else {}, True
    except TocsinError as error:
        log.warning("reachability_unknown", org_id=run.org_id, reason=error.message)
        unreachable, known = {}, False
    # In a thread: weeks of many schedules take longer than other calls may wait.
    return Foreseen(await asyncio.to_thread(simulate, run, event, start, there.at, unreachable), known)
