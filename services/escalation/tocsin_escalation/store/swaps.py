"""Swaps in PostgreSQL. That one has expired is no state of its row: its first stretch has begun."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_escalation.domain.words import Word
from tocsin_escalation.store.planned import Cursor, Planned


class SwapState(Word):
    """What has become of a swap."""

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
        """What has become of it by then."""
        return SwapState.EXPIRED if self.state is SwapState.OFFERED and self.begins <= now else self.state


def _row(record: Record) -> SwapRow:
    values = dict(record)
    lists = {name: tuple(values[name]) for name in ("offered_to", "declined_by")}
    return SwapRow(**{**values, **lists, "state": SwapState(values["state"])})


COLUMNS: Final = columns(SwapRow)
TABLE: Final = Planned("swaps", "user_id", COLUMNS, _row)
_BEGINS: Final = "least(start_time, return_start_time)"


async def get(tx: Tx, id_: UUID) -> SwapRow | None:
    """One of this tenant."""
    record = await tx.fetchrow(f"SELECT {COLUMNS} FROM swaps WHERE org_id = $1 AND id = $2", tx.org_id, id_)
    return _row(record) if record else None


async def page(
    tx: Tx, schedule: str, user: str, *, closed: bool, ended_after: datetime, after: Cursor | None, limit: int
) -> list[SwapRow]:
    """Those of this tenant that end later than `ended_after`, by end; only those that are offered unless `closed`."""
    records = await tx.fetch(
        f"""SELECT {COLUMNS} FROM swaps
            WHERE org_id = $1 AND ($2 = '' OR schedule_id = $2)
              AND ($3 = '' OR user_id = $3 OR accepted_by = $3 OR $3 = ANY(offered_to) OR offered_to = '{{}}')
              AND ($4 OR state = 'offered' AND {_BEGINS} > app_now())
              AND end_time > $5 AND (end_time, id) > ($6, $7) ORDER BY end_time, id LIMIT $8""",
        tx.org_id,
        schedule,
        user,
        closed,
        ended_after,
        *(after or (ended_after, UUID(int=0))),
        limit,
    )
    return [_row(record) for record in records]


async def insert(tx: Tx, row: SwapRow) -> SwapRow:
    """A new one."""
    record = await tx.fetchrow(
        f"""INSERT INTO swaps (org_id, id, schedule_id, user_id, start_time, end_time, return_start_time, return_end_time,
                               offered_to, reason, author)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING {COLUMNS}""",
        tx.org_id,
        row.id,
        row.schedule_id,
        row.user_id,
        row.start_time,
        row.end_time,
        row.return_start_time,
        row.return_end_time,
        list(row.offered_to),
        row.reason,
        row.author,
    )
    assert record is not None, "an insert returns its row"
    return _row(record)


async def close(tx: Tx, id_: UUID, state: SwapState, accepted_by: str, declined_by: Sequence[str]) -> SwapRow:
    """What became of a locked one."""
    record = await tx.fetchrow(
        f"""UPDATE swaps SET state = $3, accepted_by = $4, declined_by = $5, version = version + 1, update_time = app_now()
            WHERE org_id = $1 AND id = $2 RETURNING {COLUMNS}""",
        tx.org_id,
        id_,
        state.value,
        accepted_by,
        list(declined_by),
    )
    assert record is not None, "the row is locked by this transaction"
    return _row(record)
