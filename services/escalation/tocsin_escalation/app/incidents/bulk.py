"""One command for every incident that a filter finds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import invalid

from tocsin_escalation.app.incidents import read
from tocsin_escalation.app.incidents.command import Commands
from tocsin_escalation.app.incidents.known import Step
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Acknowledged, Snoozed
from tocsin_escalation.store.incidents.escalations import EscalationRow
from tocsin_escalation.store.incidents.finding import Filters

MOST: Final = 250
_ROUNDS: Final = 20
"""Each looks at 10,000 incidents at most when no index knows the filter."""


class Action(Enum):
    """What is done to each incident."""

    ACKNOWLEDGE = "acknowledge"
    SNOOZE = "snooze"
    RESOLVE = "resolve"


_NEEDS_NONE: Final = {
    Action.ACKNOWLEDGE: (State.ACKNOWLEDGED, State.MERGED, State.RESOLVED),
    Action.SNOOZE: (State.SNOOZED, State.MERGED, State.RESOLVED),
    Action.RESOLVE: (State.RESOLVED,),
}
"""The states in which an incident needs no such action: it is left out."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """Incidents, newest first. `more`: others may fit."""

    rows: Sequence[EscalationRow]
    more: bool


async def fitting(db: Database, org_id: str, filters: Filters, action: Action, limit: int) -> Fitting:
    """The incidents that fit and need the action. Raises INVALID_FIELD for a filter that says nothing."""
    if filters == Filters():
        raise invalid("filter", "must filter by something; to mean every incident, write down the states you mean")
    wanted = filters.states or tuple(state.value for state in State)
    states = tuple(state for state in wanted if State(state) not in _NEEDS_NONE[action])
    if not states:
        return Fitting((), more=False)
    rows, cursor = list[EscalationRow](), None
    for _ in range(_ROUNDS):
        found = await read.newest(db, org_id, replace(filters, states=states), cursor, limit - len(rows))
        rows += found.rows
        cursor = found.end
        if cursor is None or len(rows) == limit:
            break
    return Fitting(rows, more=cursor is not None)


async def steps(
    commands: Commands, org_id: str, actor: str, action: Action, incident_ids: Sequence[UUID], snooze: timedelta
) -> list[Step]:
    """One step for each incident. To resolve, ingest has resolved them before; raises SERVICE_UNAVAILABLE when it cannot.

    `snooze`: for how long, when that is the action.
    """
    match action:
        case Action.RESOLVE:
            return await commands.resolving(org_id, actor, incident_ids)
        case Action.SNOOZE:
            return [Step(id_, Snoozed(actor, snooze)) for id_ in incident_ids]
        case Action.ACKNOWLEDGE:
            return [Step(id_, Acknowledged(actor)) for id_ in incident_ids]
