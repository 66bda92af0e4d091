"""Ingest's own record of incidents, for those who tell escalation about them."""

from collections.abc import Sequence
from uuid import UUID

from tocsin_kit.db.pool import Database

from tocsin_ingest.store import records
from tocsin_ingest.store.records import IncidentRecord


class IncidentRecords:
    """Reads records of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, wanted: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], IncidentRecord]:
        """Those of the incidents (tenant, id) that ingest has. Raises DATABASE_UNAVAILABLE."""
        async with self._database.system() as tx:
            return await records.read(tx, wanted)
