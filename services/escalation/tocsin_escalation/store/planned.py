"""What is planned for a stretch of time, in PostgreSQL: overrides, fixed periods and absences have the same life.

Each is a table with `org_id`, `id`, `start_time`, `end_time`, and a column that says what it is about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx


class Stretch(Protocol):
    """A row of such a table."""

    @property
    def id(self) -> UUID: ...
    @property
    def start_time(self) -> datetime: ...
    @property
    def end_time(self) -> datetime: ...


R = TypeVar("R", bound=Stretch)
Cursor = tuple[datetime, UUID]
"""The end and the id of the last row of a page."""


@dataclass(frozen=True, slots=True)
class Planned(Generic[R]):
    """One such table. `about` is the column that lists are filtered by; `read` makes a row of a record."""

    table: str
    about: str
    columns: str
    read: Callable[[Record], R]

    async def get(self, tx: Tx, id_: UUID) -> R | None:
        """One of this tenant, locked for a change."""
        query = f"SELECT {self.columns} FROM {self.table} WHERE org_id = $1 AND id = $2 FOR UPDATE"
        record = await tx.fetchrow(query, tx.org_id, id_)
        return self.read(record) if record else None

    async def page(self, tx: Tx, about: str, ended_after: datetime, after: Cursor | None, limit: int) -> list[R]:
        """Those of this tenant (about one thing, if `about` is not empty) that end later than `ended_after`, by end."""
        records = await tx.fetch(
            f"""SELECT {self.columns} FROM {self.table}
                WHERE org_id = $1 AND ($2 = '' OR {self.about} = $2) AND end_time > $3 AND (end_time, id) > ($4, $5)
                ORDER BY end_time, id LIMIT $6""",
            tx.org_id,
            about,
            ended_after,
            *(after or (ended_after, UUID(int=0))),
            limit,
        )
        return [self.read(record) for record in records]

    async def waiting(self, tx: Tx, about: str) -> int:
        """How many that are about it have not ended."""
        query = f"SELECT count(*) FROM {self.table} WHERE org_id = $1 AND {self.about} = $2 AND end_time > app_now()"
        found: int = await tx.fetchval(query, tx.org_id, about)
        return found

    async def end(self, tx: Tx, id_: UUID, time: datetime) -> None:
        """A locked one ends at `time`."""
        await tx.execute(f"UPDATE {self.table} SET end_time = $3 WHERE org_id = $1 AND id = $2", tx.org_id, id_, time)

    async def delete(self, tx: Tx, id_: UUID) -> None:
        """A locked one leaves no trace."""
        await tx.execute(f"DELETE FROM {self.table} WHERE org_id = $1 AND id = $2", tx.org_id, id_)

    async def delete_ended(self, tx: Tx, older_than_days: int, limit: int) -> int:
        """Forget those of every tenant that ended long ago, at most `limit`; how many that were."""
        records = await tx.fetch(
            f"""DELETE FROM {self.table} WHERE (org_id, id) IN (
                 SELECT org_id, id FROM {self.table} WHERE end_time < app_now() - make_interval(days => $1)
                 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id""",
            older_than_days,
            limit,
        )
        return len(records)
