"""Service accounts in PostgreSQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns


@dataclass(frozen=True, slots=True)
class ServiceAccountRow:
    """A machine as kept."""

    id: str
    display_name: str
    author: str
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None


COLUMNS: Final = columns(ServiceAccountRow)


def _row(record: Record) -> ServiceAccountRow:
    return ServiceAccountRow(**dict(record))


async def get(tx: Tx, id_: str, *, lock: bool = False) -> ServiceAccountRow | None:
    """One of this tenant."""
    query = f"SELECT {COLUMNS} FROM service_accounts WHERE org_id = $1 AND id = $2" + (" FOR UPDATE" if lock else "")
    record = await tx.fetchrow(query, tx.org_id, id_)
    return _row(record) if record else None


async def page(tx: Tx, after: str, limit: int) -> list[ServiceAccountRow]:
    """This tenant's by id, behind `after`."""
    query = f"SELECT {COLUMNS} FROM service_accounts WHERE org_id = $1 AND id > $2 ORDER BY id LIMIT $3"
    return [_row(record) for record in await tx.fetch(query, tx.org_id, after, limit)]


async def insert(tx: Tx, row: ServiceAccountRow) -> ServiceAccountRow | None:
    """A new one; None when the id is taken."""
    query = f"""INSERT INTO service_accounts (org_id, id, display_name, author) VALUES ($1, $2, $3, $4)
                ON CONFLICT ON CONSTRAINT service_accounts_pkey DO NOTHING RETURNING {COLUMNS}"""
    record = await tx.fetchrow(query, tx.org_id, row.id, row.display_name, row.author)
    return _row(record) if record else None


async def update(tx: Tx, row: ServiceAccountRow) -> ServiceAccountRow:
    """A locked one's new values."""
    query = f"""UPDATE service_accounts SET display_name = $3, version = version + 1, update_time = app_now()
                WHERE org_id = $1 AND id = $2 RETURNING {COLUMNS}"""
    record = await tx.fetchrow(query, tx.org_id, row.id, row.display_name)
    assert record is not None, "the row is locked by this transaction"
    return _row(record)


async def delete(tx: Tx, id_: str) -> None:
    """A locked one's end, and that of its keys."""
    await tx.execute("DELETE FROM service_accounts WHERE org_id = $1 AND id = $2", tx.org_id, id_)
