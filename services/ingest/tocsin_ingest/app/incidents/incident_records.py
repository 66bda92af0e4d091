"""Ingest's own record of incidents, for sending them to escalation."""

from collections.abc import Sequence
from uuid import UUID

from tocsin_kit.db.pool import Database

from tocsin_ingest.store.alerts import repeats
from tocsin_ingest.store.incidents import records
from tocsin_ingest.store.incidents.records import IncidentRecord


class IncidentRecords:
    """Reads records of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], IncidentRecord]:
        """Those of the incidents (tenant, id) that ingest has. Raises DATABASE_UNAVAILABLE."""
        async with self._database.system() as tx:
            return await records.read(tx, wanted)

    async def over(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], str]:
        """By whom or what those of the incidents (tenant, id) were resolved that are. Raises DATABASE_UNAVAILABLE."""
        async with self._database.system() as tx:
            return await records.over(tx, wanted)

    async def counts(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], int]:
        """The number of alerts of each of these incidents (tenant, id); for events that are delivered now.

        Raises DATABASE_UNAVAILABLE.
        """
        counts: dict[tuple[str, UUID], int] = {}
        left = list(dict.fromkeys(wanted))
        while left:
            async with self._database.claim() as tx:
                counts |= await repeats.take_counts(tx, left)
                left = [each for each in left if each not in counts]
                known = await records.read(tx, left) if left else {}
            counts |= {of: record.alert_count for of, record in known.items() if record.resolved_by is not None}
            # Batches hold the others. Once one of these is free, so are those of its batch, and the next round takes them
            # together.
            left = [each for each in known if each not in counts]
            if left:
                async with self._database.claim() as tx:
                    counts |= await repeats.take_count(tx, left[0])
                left = [each for each in left if each not in counts]
        return counts
