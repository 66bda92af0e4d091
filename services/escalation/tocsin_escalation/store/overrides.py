"""Overrides of schedules in PostgreSQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_escalation.domain.schedules.model import Scope
from tocsin_escalation.store.planned import Planned


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


COLUMNS: Final = columns(OverrideRow)
TABLE: Final = Planned("schedule_overrides", "schedule_id", COLUMNS, _row)


async def insert(tx: Tx, row: OverrideRow) -> OverrideRow:
    """A new override, created after all others."""
    record = await tx.fetchrow(
        f"""INSERT INTO schedule_overrides (org_id, id, schedule_id, start_time, end_time, scope, replaced, users, reason, author,
                                            swap_id)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING {COLUMNS}""",
        tx.org_id,
        row.id,
        row.schedule_id,
        row.start_time,
        row.end_time,
        row.scope.value,
        row.replaced,
        list(row.users),
        row.reason,
        row.author,
        row.swap_id,
    )
    assert record is not None, "an insert returns its row"
    return _row(record)
