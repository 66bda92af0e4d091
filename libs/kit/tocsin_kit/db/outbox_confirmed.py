"""Rows that their receiver has accepted, and that no relay has claimed: they are deleted by their ids."""

from collections.abc import Callable, Sequence
from typing import Final

from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay_settling import delete_from
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

Named = tuple[int, str]
"""A row's id, and its tenant."""

GIVEN: Final = "unnest($1::bigint[], $2::text[]) AS mine (id, org_id)"
# The tenant is compared in a way that cannot use an index: rows are found by their ids.
NAMED: Final = "outbox.id = mine.id AND outbox.org_id IS NOT DISTINCT FROM mine.org_id"
_GONE: Final = delete_from(GIVEN, NAMED)
_MOST: Final = 500


def arguments(rows: Sequence[Named]) -> tuple[list[int], list[str]]:
    """What `GIVEN` takes."""
    return [id for id, _ in rows], [org_id for _, org_id in rows]


async def delete(database: Database, rows: Sequence[Named]) -> bool:
    """Delete them; returns whether a row was waiting for one of them. Raises DATABASE_UNAVAILABLE."""
    async with database.autocommit() as tx:
        waits: bool = await tx.fetchval(_GONE, *arguments(rows))
        return waits


class Confirmed:
    """Deletes rows that their writer has delivered itself, after the caller, who need not wait for it, was answered.

    Such rows are written as due a moment later (`SURE_WAY_SECONDS`). One that is not deleted, because its process died or the
    database is away, is delivered again by the relay. The relay may claim one at the same time: its receiver may get a row twice
    and acts once.
    """

    def __init__(self, database: Database, nudge: Callable[[], None]) -> None:
        """`nudge`: a later row of the same ordering key is now due for the relay."""
        self._database = database
        self._nudge = nudge
        self._batches: Batches[Named, None] = Batches(self._delete, most=_MOST)

    def note(self, rows: Sequence[Named]) -> None:
        """Their receiver has accepted them."""
        self._batches.enqueue_each(rows)

    async def drain(self) -> None:
        """Return when no row waits to be deleted."""
        await self._batches.drain()

    async def _delete(self, rows: Sequence[Named]) -> list[None]:
        try:
            if await delete(self._database, rows):
                self._nudge()
        except TocsinError as error:
            _log.info("left_to_relay", rows=len(rows), error=error.message)
        return [None] * len(rows)
