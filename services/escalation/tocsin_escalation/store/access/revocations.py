"""Revocations in PostgreSQL. Rows are kept until every credential that they refuse has expired."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import SYSTEM, Tx
from tocsin_kit.db.rows import columns
from tocsin_kit.db.statements import Filtered, Statement, columns_of, param, params_of

from tocsin_escalation.store import tables

SETTLED: Final = "30 seconds"
"""No transaction takes longer to commit (its statements and pauses end after 5 s each), so no older number can still appear."""


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """One revocation. Either `token_id` or `subject` is empty."""

    org_id: str
    id: UUID
    token_id: str
    subject: str
    issued_before: datetime
    expire_time: datetime
    author: str
    reason: str = ""
    of_key: bool = False
    """Of an API key by its id."""
    number: int = 0
    create_time: datetime | None = None


COLUMNS: Final = columns(RevocationRow)
_WRITTEN: Final = ("id", "token_id", "subject", "issued_before", "expire_time", "author", "reason", "of_key")
_C: Final = tables.revocations.c
_COLUMNS: Final = columns_of(tables.revocations, RevocationRow)
_INSERT: Final = Statement(
    sa.insert(tables.revocations).values(params_of(tables.revocations, ("org_id", *_WRITTEN))).returning(*_COLUMNS)
)
_PAGE: Final = Filtered(
    sa.select(*_COLUMNS)
    .where(sa.not_(_C.of_key), _C.expire_time > sa.func.app_now())
    .order_by(_C.number.desc())
    .limit(param("limit")),
    _C.org_id == param("org_id"),
    _C.number < param("before"),
)


def _row(record: Record) -> RevocationRow:
    return RevocationRow(**dict(record))


async def insert(tx: Tx, row: RevocationRow) -> RevocationRow:
    """A new one."""
    record = await tx.fetchrow(*_INSERT(org_id=row.org_id, **{name: getattr(row, name) for name in _WRITTEN}))
    assert record is not None, "an insert returns its row"
    return _row(record)


async def page(tx: Tx, before: int | None, limit: int) -> list[RevocationRow]:
    """The tenant's own that people made and that have not ended, newest first, before a number; of all tenants in a system
    transaction."""
    call = _PAGE(org_id=None if tx.org_id == SYSTEM else tx.org_id, before=before, limit=limit)
    return [_row(record) for record in await tx.fetch(*call)]


# One statement: every replica of every service sends it each second, and there is hardly ever a revocation.
_AFTER: Final = f"""
SELECT settled, later.* FROM (
  SELECT coalesce(max(number), 0) AS settled FROM revocations WHERE create_time < app_now() - interval '{SETTLED}'
) AS s LEFT JOIN (
  SELECT {COLUMNS} FROM revocations WHERE number > $1 AND expire_time > app_now() ORDER BY number LIMIT $2
) AS later ON true ORDER BY number
"""


async def after(tx: Tx, number: int, limit: int) -> tuple[Sequence[RevocationRow], int]:
    """Of all tenants, by number; and the number up to which none can still appear: numbers are drawn before the commit."""
    records = await tx.fetch(_AFTER, number, limit)
    rows = [RevocationRow(*list(record)[1:]) for record in records if record["id"] is not None]
    return rows, records[0]["settled"]


async def delete_over(tx: Tx, limit: int) -> int:
    """Delete those of every tenant that refuse no credential any more, at most `limit`; returns how many."""
    records = await tx.fetch(
        """DELETE FROM revocations WHERE (org_id, id) IN (
             SELECT org_id, id FROM revocations WHERE expire_time < app_now() LIMIT $1 FOR UPDATE SKIP LOCKED)
           RETURNING id""",
        limit,
    )
    return len(records)
