"""Forgets alerts and incidents that were over long ago, and yesterday's request ids."""

from datetime import timedelta
from functools import partial
from typing import Final

from tocsin_kit.db.partitions import Partitions
from tocsin_kit.db.pool import Database
from tocsin_kit.db.requests import sweep_requests
from tocsin_kit.db.retention import delete_in_batches

from tocsin_ingest.store.retention import PARTITIONED, STATEMENTS, delete_old

EVERY: Final = 300.0
"""Seconds between two rounds."""


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
        for statement in STATEMENTS:
            delete = partial(delete_old, statement=statement, kept=self._kept)
            gone += await delete_in_batches(self._database, delete)
        return gone
