"""Swaps in PostgreSQL. "Expired" is no state of its row: it means that its first stretch has begun."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Filtered, Statement, columns_of, constant, param, params_of

from tocsin_escalation.domain.words import Word
from tocsin_escalation.store import tables
from tocsin_escalation.store.schedules.planned import Cursor, Planned


class SwapState(Word):
    """The state of a swap."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    """Never stored."""


@dataclass(frozen=True, slots=True)
class SwapRow:
    """`user_id` offers [start_time, end_time), for [return_start_time, return_end_time) if these are set."""

    id: UUID
    schedule_id: str
    user_id: str
    start_time: datetime
    end_time: datetime
    return_start_time: datetime | None
    return_end_time: datetime | None
    offered_to: tuple[str, ...]
    reason: str
    author: str
    state: SwapState = SwapState.OFFERED
    accepted_by: str = ""
    declined_by: tuple[str, ...] = ()
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def begins(self) -> datetime:
        """When the first of its stretches begins, and the offer ends."""
        return min(self.start_time, self.return_start_time or self.start_time)

    def state_at(self, now: datetime) -> SwapState:
        """Its state at that time."""
        return SwapState.EXPIRED if self.state is SwapState.OFFERED and self.begins <= now else self.state


def _row(record: Record) -> SwapRow:
    values = dict(record)
    lists = {name: tuple(values[name]) for name in ("offered_to", "declined_by")}
    return SwapRow(**{**values, **lists, "state": SwapState(values["state"])})


_WRITTEN: Final = (
    "id",
    "schedule_id",
    "user_id",
    "start_time",
    "end_time",
    "return_start_time",
    "return_end_time",
    "offered_to",
    "reason",
    "author",
)
TABLE: Final = Planned(tables.swaps, SwapRow, _row, about="user_id", written=_WRITTEN)
_C: Final = tables.swaps.c
_COLUMNS: Final = columns_of(tables.swaps, SwapRow)
_MINE: Final = _C.org_id == param("org_id")
_BEHIND: Final = sa.tuple_(_C.end_time, _C.id) > sa.tuple_(param("end_time"), param("after"))
_TO_ALL: Final = sa.func.cardinality(_C.offered_to) == constant(0)
_PAGE: Final = Filtered(
    sa.select(*_COLUMNS)
    .where(_MINE, _C.end_time > param("ended_after"), _BEHIND)
    .order_by(_C.end_time, _C.id)
    .limit(param("limit")),
    _C.schedule_id == param("schedule"),
    sa.or_(
        _C.user_id == param("user"),
        _C.accepted_by == param("user"),
        param("user", sa.Text) == sa.any_(_C.offered_to),
        _TO_ALL,
    ),
    sa.and_(_C.state == param("state"), sa.func.least(_C.start_time, _C.return_start_time) > sa.func.app_now()),
)
_CLOSE: Final = Statement(
    sa.update(tables.swaps)
    .where(_MINE, _C.id == param("id"))
    .values(
        params_of(tables.swaps, ("state", "accepted_by", "declined_by"))
        | {"version": _C.version + constant(1), "update_time": sa.func.app_now()}
    )
    .returning(*_COLUMNS)
)


async def get(tx: Tx, id: UUID) -> SwapRow | None:
    """One of this tenant."""
    return await TABLE.get(tx, id, lock=False)


async def page(
    tx: Tx, schedule: str, user: str, *, closed: bool, ended_after: datetime, after: Cursor | None, limit: int
) -> list[SwapRow]:
    """Those of this tenant that end later than `ended_after`, by end; only those that are offered unless `closed`."""
    end_time, id = after or (ended_after, UUID(int=0))
    call = _PAGE(
        org_id=tx.org_id,
        schedule=schedule or None,
        user=user or None,
        state=None if closed else SwapState.OFFERED.value,
        ended_after=ended_after,
        end_time=end_time,
        after=id,
        limit=limit,
    )
    return [_row(record) for record in await tx.fetch(*call)]


async def insert(tx: Tx, row: SwapRow) -> SwapRow:
    """A new one."""
    values = {name: getattr(row, name) for name in _WRITTEN}
    values |= {"offered_to": list(row.offered_to)}
    record = await tx.fetchrow(*TABLE.inserting(org_id=tx.org_id, **values))
    assert record is not None, "an insert returns its row"
    return _row(record)


async def close(tx: Tx, id: UUID, state: SwapState, accepted_by: str, declined_by: Sequence[str]) -> SwapRow:
    """The final state of a locked one."""
    values = {"state": state.value, "accepted_by": accepted_by, "declined_by": list(declined_by)}
    record = await tx.fetchrow(*_CLOSE(org_id=tx.org_id, id=id, **values))
    assert record is not None, "the row is locked by this transaction"
    return _row(record)
