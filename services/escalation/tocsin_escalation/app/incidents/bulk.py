"""One command for every incident that matches a filter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import invalid

from tocsin_escalation.app.incidents import read
from tocsin_escalation.app.incidents.command import Commands, Plan
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.app.incidents.merge import check_target, plan_part, plan_unmerge
from tocsin_escalation.app.people import targets
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Event, Restarted
from tocsin_escalation.store.incidents import finding
from tocsin_escalation.store.incidents.escalations import EscalationRow
from tocsin_escalation.store.incidents.finding import Filters

MOST: Final = 250
MOST_COUNTED: Final = 10_000
_ROUNDS: Final = 20
"""Each reads at most 10,000 incidents, when no index covers the filter."""
Place = tuple[datetime, UUID]
"""The place of an incident in the order of lists."""


class Action(Enum):
    """The action on each incident."""

    ACKNOWLEDGE = "acknowledge"
    SNOOZE = "snooze"
    RESOLVE = "resolve"
    UNACKNOWLEDGE = "unacknowledge"
    ESCALATE = "escalate"
    REASSIGN = "reassign"
    ADD_RESPONDERS = "add responders"
    RESTART = "restart"
    SET_SEVERITY = "set severity"
    ADD_NOTE = "add note"
    MERGE = "merge"
    UNMERGE = "unmerge"


_UNRESOLVED: Final = (State.TRIGGERED, State.ACKNOWLEDGED, State.SNOOZED, State.EXHAUSTED)
_NEED: Final = {
    Action.ACKNOWLEDGE: (State.TRIGGERED, State.SNOOZED, State.EXHAUSTED),
    Action.SNOOZE: (State.TRIGGERED, State.ACKNOWLEDGED, State.EXHAUSTED),
    Action.RESOLVE: (*_UNRESOLVED, State.MERGED),
    Action.UNACKNOWLEDGE: (State.ACKNOWLEDGED, State.SNOOZED),
    Action.ESCALATE: _UNRESOLVED,
    Action.REASSIGN: _UNRESOLVED,
    Action.ADD_RESPONDERS: _UNRESOLVED,
    Action.RESTART: _UNRESOLVED,
    Action.SET_SEVERITY: _UNRESOLVED,
    Action.ADD_NOTE: tuple(State),
    Action.MERGE: _UNRESOLVED,
    Action.UNMERGE: (State.MERGED,),
}
"""The states in which an incident can need the action; incidents in other states are skipped."""


@dataclass(frozen=True, slots=True)
class Change:
    """The action, and who does it. `event`: the event for each incident, if it is the same for all. `into`: for a merge, the
    target."""

    action: Action
    actor: str
    event: Event | None = None
    into: UUID | None = None


@dataclass(frozen=True, slots=True)
class Fitting:
    """Matching incidents, newest first. `end`: the place after which more may match."""

    rows: Sequence[EscalationRow]
    end: Place | None


async def fitting(
    db: Database, org_id: str, filters: Filters, change: Change, behind: Sequence[object] | None, limit: int
) -> Fitting:
    """The incidents that match and need the change. Raises INVALID_FIELD for an empty filter."""
    wanted = _wanted(filters, change)
    if not wanted.states:
        return Fitting((), None)
    rows, cursor = list[EscalationRow](), behind
    for _ in range(_ROUNDS):
        found = await read.newest(db, org_id, wanted, cursor, limit - len(rows))
        rows += found.rows
        cursor = found.end
        if found.end is None or len(rows) == limit:
            return Fitting(rows, found.end)
    return Fitting(rows, found.end)


async def count(db: Database, org_id: str, filters: Filters, change: Change, behind: Sequence[object] | None) -> int:
    """How many incidents match and need the change; MOST_COUNTED stands for more."""
    wanted = _wanted(filters, change)
    if not wanted.states:
        return 0
    counted, place = 0, read.place(behind)
    for _ in range(_ROUNDS):
        async with db.transaction(org_id) as tx:
            found = await finding.count(tx, wanted, place, MOST_COUNTED - counted)
        counted += found.count
        place = found.end
        if place is None or counted >= MOST_COUNTED:
            break
    return counted


def _wanted(filters: Filters, change: Change) -> Filters:
    if filters == Filters():
        raise invalid("filter", "must filter by something; to mean every incident, write down the states you mean")
    asked = filters.states or tuple(state.value for state in State)
    needing = {state.value for state in _NEED[change.action]}
    return replace(filters, states=tuple(state for state in asked if state in needing), but=change.into)


async def check(db: Database, org_id: str, change: Change) -> None:
    """Refuse a change that would be refused for each incident: a merge into an incident that can be no target."""
    if change.into is not None:
        check_target((await read.incident(db, org_id, change.into)).run)


async def steps(commands: Commands, org_id: str, change: Change, incident_ids: Sequence[UUID]) -> list[Step]:
    """One step for each incident. For a resolve, ingest has resolved them before; raises SERVICE_UNAVAILABLE when it cannot."""
    if change.action is Action.RESOLVE:
        return await commands.resolving(org_id, change.actor, incident_ids)
    if change.action is Action.RESTART:
        policies = await targets.policies_of(commands.db, org_id, incident_ids)
        return [Step(id, Restarted(change.actor, policies.get(id))) for id in incident_ids]
    assert change.event is not None, "the same event for each incident"
    return [Step(id, change.event) for id in incident_ids]


def plan(change: Change) -> Plan | None:
    """How each incident is merged, or taken out of a merge; None for an action that is one step of each incident."""
    if change.action is Action.UNMERGE:
        return lambda runs, id: plan_unmerge(runs, id, change.actor, "")
    into = change.into
    return None if into is None else lambda runs, id: plan_part(runs, id, into, change.actor)
