"""One command for every incident that a filter finds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import invalid

from tocsin_escalation.app import read
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.store.escalations import EscalationRow
from tocsin_escalation.store.finding import Filters

MOST: Final = 250
_ROUNDS: Final = 20
"""Each looks at 10,000 incidents at most when no index knows the filter."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """Incidents, newest first. `more`: others may fit."""

    rows: Sequence[EscalationRow]
    more: bool


async def fitting(db: Database, org_id: str, filters: Filters, but: Sequence[State], limit: int) -> Fitting:
    """The incidents that fit and are in none of the states `but`. Raises INVALID_FIELD for a filter that says nothing."""
    if filters == Filters():
        raise invalid("filter", "must filter by something; to mean every incident, write down the states you mean")
    wanted = filters.states or tuple(state.value for state in State)
    states = tuple(state for state in wanted if State(state) not in but)
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
