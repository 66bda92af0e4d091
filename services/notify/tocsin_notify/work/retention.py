"""What is old goes, a little at a time."""

from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.db.requests import sweep_requests
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

_BATCH: Final = 500
_ROUNDS: Final = 40

# Notifications and attempts go with their page. A page that still waits for something is never too old.
_PAGES: Final = """
DELETE FROM pages WHERE id IN (
  SELECT p.id FROM pages p WHERE p.create_time < app_now() - make_interval(secs => $1)
    AND NOT EXISTS (SELECT FROM notifications n WHERE n.page_id = p.id AND n.state IN ('pending', 'sending'))
  ORDER BY p.create_time LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_OLD: Final = {
    "cancel_fences": "update_time",
    "dead_letters": "create_time",
    "verifications": "create_time",
}
_ROWS: Final = """
DELETE FROM {table} WHERE ctid IN (
  SELECT ctid FROM {table} WHERE {column} < app_now() - make_interval(secs => $1)
  ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_DAY: Final = 86_400.0
_VERIFICATIONS_KEPT: Final = _DAY


class Retention:
    """Deletes in small transactions, oldest first; a round ends after a while, and the next goes on."""

    def __init__(self, db: Database, *, days: float, fence_days: float) -> None:
        """`days`: pages with all that hangs on them, and dead letters. `fence_days`: longer than a job may be on its way."""
        self._db = db
        self._kept = {
            "cancel_fences": fence_days * _DAY,
            "dead_letters": days * _DAY,
            "verifications": _VERIFICATIONS_KEPT,
        }
        self._pages_kept = days * _DAY

    async def __call__(self) -> int:
        """One round; how many rows went."""
        gone = await self._sweep(_PAGES, self._pages_kept)
        for table, column in _OLD.items():
            gone += await self._sweep(_ROWS.format(table=table, column=column), self._kept[table])
        gone += await sweep_requests(self._db)
        if gone:
            _log.info("retention", rows=gone)
        return gone

    async def _sweep(self, statement: str, seconds: float) -> int:
        total = 0
        for _ in range(_ROUNDS):
            async with self._db.system() as tx:
                gone = int((await tx.execute(statement, seconds, _BATCH)).removeprefix("DELETE "))
            total += gone
            if gone < _BATCH:
                break
        return total
