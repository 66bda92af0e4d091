"""Absences of people in PostgreSQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_escalation.store.planned import Planned


@dataclass(frozen=True, slots=True)
class AbsenceRow:
    """A user is away within [start_time, end_time)."""

    id: UUID
    user_id: str
    start_time: datetime
    end_time: datetime
    reason: str
    author: str
    create_time: datetime | None = None


def _row(record: Record) -> AbsenceRow:
    return AbsenceRow(**dict(record))


COLUMNS: Final = columns(AbsenceRow)
TABLE: Final = Planned("absences", "user_id", COLUMNS, _row)


async def insert(tx: Tx, row: AbsenceRow) -> AbsenceRow:
    """A new absence."""
    record = await tx.fetchrow(
        f"""INSERT INTO absences (org_id, id, user_id, start_time, end_time, reason, author)
            VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {COLUMNS}""",
        tx.org_id,
        row.id,
        row.user_id,
        row.start_time,
        row.end_time,
        row.reason,
        row.author,
    )
    assert record is not None, "an insert returns its row"
    return _row(record)
