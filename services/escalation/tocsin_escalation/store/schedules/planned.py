"""Plans for a time, in PostgreSQL: overrides, fixed periods, absences and swaps are stored alike.

Each is a table with `org_id`, `id`, `start_time`, `end_time`, and a column with its subject.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Filtered, Statement, columns_of, param, params_of


class PlannedRow(Protocol):
    """A row of such a table."""

    @property
    def id(self) -> UUID:
        """Unique in its table."""

    @property
    def start_time(self) -> datetime:
        """When it begins to count."""

    @property
    def end_time(self) -> datetime:
        """When it counts no more."""


R = TypeVar("R", bound=PlannedRow)
Cursor = tuple[datetime, UUID]
"""The end and the id of the last row of a page."""


class Planned(Generic[R]):
    """The statements of one such table."""

    def __init__(
        self, table: sa.Table, kind: type[R], read: Callable[[Record], R], *, about: str, written: Sequence[str]
    ) -> None:
        """`read` makes a row of the columns that `kind` has; `written` are those of a new one. Lists are filtered by `about`."""
        c, columns = table.c, columns_of(table, kind)
        of_tenant, concerns = c.org_id == param("org_id"), c[about] == param("about")
        one = sa.and_(of_tenant, c.id == param("id"))
        behind = sa.tuple_(c.end_time, c.id) > sa.tuple_(param("end_time"), param("after"))
        over = c.end_time < sa.func.app_now() - sa.func.make_interval(
            sa.literal_column("0"), sa.literal_column("0"), sa.literal_column("0"), param("days", sa.Integer)
        )
        old = sa.select(c.org_id, c.id).where(over).limit(param("limit")).with_for_update(skip_locked=True)
        select = sa.select(*columns)
        self.table: Final = table.name
        self._read: Final = read
        self._get: Final = Statement(select.where(one))
        self._lock: Final = Statement(select.where(one).with_for_update())
        self._page: Final = Filtered(
            select.where(of_tenant, c.end_time > param("ended_after"), behind)
            .order_by(c.end_time, c.id)
            .limit(param("limit")),
            concerns,
        )
        self._waiting: Final = Statement(
            sa.select(sa.func.count()).select_from(table).where(of_tenant, concerns, c.end_time > sa.func.app_now())
        )
        self.inserting: Final = Statement(
            sa.insert(table).values(params_of(table, ("org_id", *written))).returning(*columns)
        )
        self._end: Final = Statement(sa.update(table).where(one).values(end_time=param("time")))
        self._delete: Final = Statement(sa.delete(table).where(one))
        self._delete_ended: Final = Statement(
            sa.delete(table).where(sa.tuple_(c.org_id, c.id).in_(old)).returning(c.id)
        )

    async def get(self, tx: Tx, id: UUID, *, lock: bool = True) -> R | None:
        """One of this tenant, locked for a change unless told otherwise."""
        record = await tx.fetchrow(*(self._lock if lock else self._get)(org_id=tx.org_id, id=id))
        return self._read(record) if record else None

    async def page(self, tx: Tx, about: str, ended_after: datetime, after: Cursor | None, limit: int) -> list[R]:
        """Those of this tenant (with one subject, if `about` is not empty) that end later than `ended_after`, by end."""
        end_time, id = after or (ended_after, UUID(int=0))
        values: dict[str, Any] = {"org_id": tx.org_id, "about": about or None, "ended_after": ended_after}
        records = await tx.fetch(*self._page(**values, end_time=end_time, after=id, limit=limit))
        return [self._read(record) for record in records]

    async def waiting(self, tx: Tx, about: str) -> int:
        """How many with this subject have not ended."""
        found: int = await tx.fetchval(*self._waiting(org_id=tx.org_id, about=about))
        return found

    async def end(self, tx: Tx, id: UUID, time: datetime) -> None:
        """A locked one ends at `time`."""
        await tx.execute(*self._end(org_id=tx.org_id, id=id, time=time))

    async def delete(self, tx: Tx, id: UUID) -> None:
        """Delete a locked one."""
        await tx.execute(*self._delete(org_id=tx.org_id, id=id))

    async def delete_ended(self, tx: Tx, limit: int, *, older_than_days: int) -> int:
        """Delete those of every tenant that ended long ago, at most `limit`; returns how many."""
        return len(await tx.fetch(*self._delete_ended(days=older_than_days, limit=limit)))
