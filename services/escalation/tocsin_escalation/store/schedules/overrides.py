"""Overrides of schedules in PostgreSQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx

from tocsin_escalation.domain.schedules.model import Scope
from tocsin_escalation.store import tables
from tocsin_escalation.store.schedules.planned import Planned


@dataclass(frozen=True, slots=True)
class OverrideRow:
    """An override as it is kept. `replaced` is the layer's id or the user, by its scope; `swap_id`: the swap it came from."""

    id: UUID
    schedule_id: str
    start_time: datetime
    end_time: datetime
    scope: Scope
    replaced: str
    users: tuple[str, ...]
    reason: str
    author: str
    create_time: datetime | None = None
    swap_id: UUID | None = None


def _row(record: Record) -> OverrideRow:
    values = dict(record)
    return OverrideRow(**{**values, "scope": Scope(values["scope"]), "users": tuple(values["users"])})


_WRITTEN: Final = (
    "id",
    "schedule_id",
    "start_time",
    "end_time",
    "scope",
    "replaced",
    "users",
    "reason",
    "author",
    "swap_id",
)
TABLE: Final = Planned(tables.schedule_overrides, OverrideRow, _row, about="schedule_id", written=_WRITTEN)


async def insert(tx: Tx, row: OverrideRow) -> OverrideRow:
    """A new override, created after all others."""
    values = {name: getattr(row, name) for name in _WRITTEN}
    values |= {"scope": row.scope.value, "users": list(row.users)}
    record = await tx.fetchrow(*TABLE.inserting(org_id=tx.org_id, **values))
    assert record is not None, "an insert returns its row"
    return _row(record)
