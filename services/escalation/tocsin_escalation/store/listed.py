"""Objects that have a UUID and are listed by their creation: API keys, calendar feeds, reminders.

Each is a table with `org_id`, `id` and `create_time`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Call, Filtered, Statement, columns_of, param, params_of

R = TypeVar("R")
Cursor = tuple[datetime, UUID]
"""The time and the id of the last row of a page."""


class Listed(Generic[R]):
    """The statements of one such table. `read` makes a row object of the columns of `kind`."""

    def __init__(
        self,
        table: sa.Table,
        kind: type[R],
        read: Callable[[Record], R],
        *,
        written: Sequence[str],
        computed: Mapping[str, sa.ColumnElement[Any]] | None = None,
        filters: Sequence[str] = (),
    ) -> None:
        """`written` and `computed` are the columns of a new row; lists are filtered by the columns `filters`."""
        c, self.columns = table.c, columns_of(table, kind)
        mine = c.org_id == param("org_id")
        self.one: Final = sa.and_(mine, c.id == param("id"))
        select = sa.select(*self.columns)
        self._read: Final = read
        self._get: Final = Statement(select.where(self.one))
        self._lock: Final = Statement(select.where(self.one).with_for_update())
        self._page: Final = Filtered(
            select.where(mine).order_by(c.create_time, c.id).limit(param("limit")),
            sa.tuple_(c.create_time, c.id) > sa.tuple_(param("after_time"), param("after")),
            *(c[name] == param(name) for name in filters),
        )
        values = params_of(table, ("org_id", "id", *written)) | dict(computed or {})
        self.inserting: Final = Statement(sa.insert(table).values(values).returning(*self.columns))
        self._delete: Final = Statement(sa.delete(table).where(self.one))

    async def get(self, tx: Tx, id: UUID, *, lock: bool = False) -> R | None:
        """One of this tenant, locked for a change if asked."""
        record = await tx.fetchrow(*(self._lock if lock else self._get)(org_id=tx.org_id, id=id))
        return None if record is None else self._read(record)

    async def delete(self, tx: Tx, id: UUID) -> None:
        """Delete one."""
        await tx.execute(*self._delete(org_id=tx.org_id, id=id))

    def paging(self, org_id: str, after: Cursor | None, limit: int, **filters: object) -> Call:
        """A tenant's, oldest first, after `after`. A filter that is None filters nothing."""
        after_time, id = after or (None, None)
        return self._page(org_id=org_id, after_time=after_time, after=id, limit=limit, **filters)

    def returned(self, record: Record | None) -> R:
        """The row that a statement returns, of a new object or of a locked one."""
        assert record is not None, "the row is locked by this transaction, or made by it"
        return self._read(record)
