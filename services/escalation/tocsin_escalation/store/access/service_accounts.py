"""Service accounts in PostgreSQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import columns_of

from tocsin_escalation.store import tables
from tocsin_escalation.store.people.named import Named


@dataclass(frozen=True, slots=True)
class ServiceAccountRow:
    """A machine as kept."""

    id: str
    display_name: str
    author: str
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None


def _row(record: Record) -> ServiceAccountRow:
    return ServiceAccountRow(**dict(record))


_TABLE: Final = Named(
    tables.service_accounts,
    columns_of(tables.service_accounts, ServiceAccountRow),
    _row,
    written=("display_name",),
    kept=("author",),
)
get: Final = _TABLE.get
page: Final = _TABLE.page
delete: Final = _TABLE.delete
"""Its keys are deleted with it."""


async def insert(tx: Tx, row: ServiceAccountRow) -> ServiceAccountRow | None:
    """A new one; None when the id is taken."""
    new = _TABLE.inserting(org_id=tx.org_id, id=row.id, display_name=row.display_name, author=row.author)
    record = await tx.fetchrow(*new)
    return _row(record) if record else None


async def update(tx: Tx, row: ServiceAccountRow) -> ServiceAccountRow:
    """The new values of a locked one."""
    record = await tx.fetchrow(*_TABLE.updating(org_id=tx.org_id, id=row.id, display_name=row.display_name))
    assert record is not None, "the row is locked by this transaction"
    return _row(record)
