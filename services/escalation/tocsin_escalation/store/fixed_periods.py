"""Fixed periods of schedules in PostgreSQL. The shifts of one are a JSON value, read as a whole or not at all."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_escalation.domain.schedules.model import FixedShift
from tocsin_escalation.store.planned import Planned


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


COLUMNS: Final = columns(FixedPeriodRow)
TABLE: Final = Planned("fixed_periods", "schedule_id", COLUMNS, _row)


async def insert(tx: Tx, row: FixedPeriodRow) -> FixedPeriodRow:
    """A new fixed period, created after all others."""
    record = await tx.fetchrow(
        f"""INSERT INTO fixed_periods (org_id, id, schedule_id, start_time, end_time, shifts, reason, author)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {COLUMNS}""",
        tx.org_id,
        row.id,
        row.schedule_id,
        row.start_time,
        row.end_time,
        json.dumps([[shift.start, shift.end, shift.people] for shift in row.shifts]),
        row.reason,
        row.author,
    )
    assert record is not None, "an insert returns its row"
    return _row(record)


async def shifts_waiting(tx: Tx, schedule_id: str) -> int:
    """The shifts of a schedule's fixed periods that have not ended."""
    count: int = await tx.fetchval(
        """SELECT coalesce(sum(jsonb_array_length(shifts)), 0)::int FROM fixed_periods
           WHERE org_id = $1 AND schedule_id = $2 AND end_time > app_now()""",
        tx.org_id,
        schedule_id,
    )
    return count
