"""Fixed periods of schedules in PostgreSQL. The shifts of one are a JSON value, read as a whole or not at all."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Statement, constant, param

from tocsin_escalation.domain.schedules.model import FixedShift
from tocsin_escalation.store import tables
from tocsin_escalation.store.schedules.planned import Planned


@dataclass(frozen=True, slots=True)
class FixedPeriodRow:
    """Within [start_time, end_time) only these shifts count in the schedule."""

    id: UUID
    schedule_id: str
    start_time: datetime
    end_time: datetime
    shifts: tuple[FixedShift, ...]
    reason: str
    author: str
    create_time: datetime | None = None


def shifts_from(data: Iterable[tuple[int, int, list[str]]]) -> tuple[FixedShift, ...]:
    """The shifts of a row, from its JSON."""
    return tuple(FixedShift(start, end, tuple(people)) for start, end, people in data)


def _row(record: Record) -> FixedPeriodRow:
    return FixedPeriodRow(**{**dict(record), "shifts": shifts_from(json.loads(record["shifts"]))})


_WRITTEN: Final = ("id", "schedule_id", "start_time", "end_time", "shifts", "reason", "author")
TABLE: Final = Planned(tables.fixed_periods, FixedPeriodRow, _row, about="schedule_id", written=_WRITTEN)
_C: Final = tables.fixed_periods.c
_SHIFTS_WAITING: Final = Statement(
    sa.select(sa.func.coalesce(sa.func.sum(sa.func.jsonb_array_length(_C.shifts)), constant(0)).cast(sa.Integer)).where(
        _C.org_id == param("org_id"), _C.schedule_id == param("schedule_id"), _C.end_time > sa.func.app_now()
    )
)


async def insert(tx: Tx, row: FixedPeriodRow) -> FixedPeriodRow:
    """A new fixed period, created after all others."""
    values = {name: getattr(row, name) for name in _WRITTEN}
    values["shifts"] = json.dumps([[shift.start, shift.end, shift.people] for shift in row.shifts])
    record = await tx.fetchrow(*TABLE.inserting(org_id=tx.org_id, **values))
    assert record is not None, "an insert returns its row"
    return _row(record)


async def shifts_waiting(tx: Tx, schedule_id: str) -> int:
    """The shifts of a schedule's fixed periods that have not ended."""
    count: int = await tx.fetchval(*_SHIFTS_WAITING(org_id=tx.org_id, schedule_id=schedule_id))
    return count
