"""Absences of people in PostgreSQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx

from tocsin_escalation.store import tables
from tocsin_escalation.store.schedules.planned import Planned


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


_WRITTEN: Final = ("id", "user_id", "start_time", "end_time", "reason", "author")
TABLE: Final = Planned(tables.absences, AbsenceRow, _row, about="user_id", written=_WRITTEN)


async def insert(tx: Tx, row: AbsenceRow) -> AbsenceRow:
    """A new absence."""
    values = {name: getattr(row, name) for name in _WRITTEN}
    record = await tx.fetchrow(*TABLE.inserting(org_id=tx.org_id, **values))
    assert record is not None, "an insert returns its row"
    return _row(record)
