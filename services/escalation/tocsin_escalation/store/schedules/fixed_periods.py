"""Fixed periods of schedules in PostgreSQL. The shifts of one are a JSON value, read as a whole."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns
from tocsin_kit.db.statements import Statement, columns_of, constant, param
from tocsin_kit.ids import new_id

from tocsin_escalation.domain.schedules.clock import time_of
from tocsin_escalation.domain.schedules.model import FixedShift
from tocsin_escalation.domain.schedules.periods import Piece
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
_WITHIN: Final = Statement(
    sa.select(*columns_of(tables.fixed_periods, FixedPeriodRow))
    .where(
        _C.org_id == param("org_id"),
        _C.schedule_id == param("schedule_id"),
        _C.end_time > param("since"),
        _C.start_time < param("until"),
    )
    .order_by(_C.ordinal)
    .with_for_update()
)
_CUT: Final = Statement(
    sa.update(tables.fixed_periods)
    .where(_C.org_id == param("org_id"), _C.id == param("id"))
    .values(start_time=param("start_time"), end_time=param("end_time"), shifts=param("shifts"))
    .returning(*columns_of(tables.fixed_periods, FixedPeriodRow))
)
# It has the ordinal of the period it is a part of, so it has the same rank among the others.
_PIECE: Final = f"""
INSERT INTO fixed_periods (org_id, id, schedule_id, start_time, end_time, shifts, reason, author, ordinal, create_time)
OVERRIDING SYSTEM VALUE
SELECT org_id, $3, schedule_id, $4, $5, $6::jsonb, reason, author, ordinal, create_time
FROM fixed_periods WHERE org_id = $1 AND id = $2 RETURNING {columns(FixedPeriodRow)}
"""


async def within(tx: Tx, schedule_id: str, since: datetime, until: datetime) -> list[FixedPeriodRow]:
    """Those of a schedule that have time within [since, until), locked for a change, in the order of their creation."""
    values = {"schedule_id": schedule_id, "since": since, "until": until}
    return [_row(record) for record in await tx.fetch(*_WITHIN(org_id=tx.org_id, **values))]


async def cut(tx: Tx, id: UUID, pieces: Sequence[Piece]) -> list[FixedPeriodRow]:
    """The remaining parts of a locked one, as rows of their own; it is deleted when there are none."""
    if not pieces:
        await TABLE.delete(tx, id)
        return []
    first, *others = pieces
    records = [
        await tx.fetchrow(
            _PIECE, tx.org_id, id, new_id(), time_of(each.start), time_of(each.end), _shifts_to(each.shifts)
        )
        for each in others
    ]
    values = {"start_time": time_of(first.start), "end_time": time_of(first.end), "shifts": _shifts_to(first.shifts)}
    records.append(await tx.fetchrow(*_CUT(org_id=tx.org_id, id=id, **values)))
    return [_row(record) for record in records if record is not None]


def _shifts_to(shifts: Sequence[FixedShift]) -> str:
    return json.dumps([[shift.start, shift.end, shift.people] for shift in shifts])


async def insert(tx: Tx, row: FixedPeriodRow) -> FixedPeriodRow:
    """A new fixed period, created after all others."""
    values = {name: getattr(row, name) for name in _WRITTEN}
    values["shifts"] = _shifts_to(row.shifts)
    record = await tx.fetchrow(*TABLE.inserting(org_id=tx.org_id, **values))
    assert record is not None, "an insert returns its row"
    return _row(record)


async def shifts_waiting(tx: Tx, schedule_id: str) -> int:
    """The shifts of a schedule's fixed periods that have not ended."""
    count: int = await tx.fetchval(*_SHIFTS_WAITING(org_id=tx.org_id, schedule_id=schedule_id))
    return count
