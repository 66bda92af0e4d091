"""Forgets alerts and incidents that were over long ago, and yesterday's request ids."""

from datetime import timedelta
from typing import Final

from tocsin_kit.db.partitions import Partitions
from tocsin_kit.db.pool import Database
from tocsin_kit.db.requests import sweep_requests

from tocsin_ingest.store.retention import PARTITIONED, STATEMENTS, delete_old

EVERY: Final = 300.0
"""Seconds between two rounds."""
_BATCH: Final = 500
_ROUNDS: Final = 200


class Retention:
    """One round deletes at most 100,000 rows of a kind, in transactions too short to be in anybody's way."""

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._kept = timedelta(days=days)
        self._closed = [Partitions(database, each, column="resolve_time", kept=self._kept) for each in PARTITIONED]

    async def sweep(self) -> int:
        """How many rows went one by one."""
        await sweep_requests(self._database)
        gone = sum([await each.sweep() for each in self._closed])
        return gone + sum([await self._all(statement) for statement in STATEMENTS])

    async def _all(self, statement: str) -> int:
        total = 0
        for _ in range(_ROUNDS):
            async with self._database.system() as tx:
                deleted = await delete_old(tx, statement, self._kept, _BATCH)
            total += deleted
            if deleted < _BATCH:
                break
        return total
