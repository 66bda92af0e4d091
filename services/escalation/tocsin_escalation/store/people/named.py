"""Objects with a name that people choose, in PostgreSQL: users, teams, service accounts, policies and schedules are stored alike.

Each is a table with `org_id`, `id`, `version` and `update_time`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from asyncpg import Record
from sqlalchemy.dialects import postgresql as pg
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Filtered, Statement, constant, param, params_of

R = TypeVar("R")


class Named(Generic[R]):
    """The statements of one such table. `read` makes a row object of `columns`; a change writes the columns `written`."""

    def __init__(
        self,
        table: sa.Table,
        columns: Sequence[sa.ColumnElement[Any]],
        read: Callable[[Record], R],
        *,
        written: Sequence[str],
        kept: Sequence[str] = (),
    ) -> None:
        """`kept`: further columns of a new row, which no change writes."""
        of_tenant = table.c.org_id == param("org_id")
        one = sa.and_(of_tenant, table.c.id == param("id"))
        select = sa.select(*columns)
        bumped = {"version": table.c.version + constant(1), "update_time": sa.func.app_now()}
        key = ("org_id", "id")
        self._read: Final = read
        self._get: Final = Statement(select.where(one))
        self._lock: Final = Statement(select.where(one).with_for_update())
        self._page: Final = Statement(
            select.where(of_tenant, table.c.id > param("after")).order_by(table.c.id).limit(param("limit"))
        )
        self._ids: Final = Filtered(
            sa.select(table.c.id)
            .where(of_tenant, table.c.id > param("after"))
            .order_by(table.c.id)
            .limit(param("limit")),
            table.c.id == sa.any_(param("only", sa.ARRAY(sa.Text))),
        )
        self.inserting: Final = Statement(
            pg.insert(table)
            .values(params_of(table, (*key, *written, *kept)))
            .on_conflict_do_nothing(index_elements=key)
            .returning(*columns)
        )
        """No row comes back when the id is taken."""
        self.updating: Final = Statement(
            sa.update(table).where(one).values(params_of(table, written) | bumped).returning(*columns)
        )
        self._delete: Final = Statement(sa.delete(table).where(one))

    async def get(self, tx: Tx, id: str, *, lock: bool = False) -> R | None:
        """One of this tenant, locked for a change if asked."""
        record = await tx.fetchrow(*(self._lock if lock else self._get)(org_id=tx.org_id, id=id))
        return None if record is None else self._read(record)

    async def page(self, tx: Tx, after: str, limit: int) -> list[R]:
        """This tenant's by id, behind `after`."""
        records = await tx.fetch(*self._page(org_id=tx.org_id, after=after, limit=limit))
        return [self._read(record) for record in records]

    async def ids(self, tx: Tx, after: str, limit: int, only: Sequence[str] | None) -> list[str]:
        """The ids of this tenant's objects after `after`; only those in `only`, unless it is None."""
        call = self._ids(org_id=tx.org_id, after=after, limit=limit, only=only)
        return [record["id"] for record in await tx.fetch(*call)]

    async def delete(self, tx: Tx, id: str) -> None:
        """A locked one's end."""
        await tx.execute(*self._delete(org_id=tx.org_id, id=id))
