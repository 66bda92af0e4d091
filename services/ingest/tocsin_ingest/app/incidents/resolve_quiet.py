"""Resolve incidents without a trigger for the time that their integration sets.

The rows are the timer: a round compares open incidents with the times of their newest alerts. So a process that dies loses
nothing, and any number of replicas may run this.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_ingest.app.alerts.intake_times import GAP
from tocsin_ingest.app.tenant_by_tenant import tenant_by_tenant
from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.metrics import IngestMetrics
from tocsin_ingest.store.alerts import intakes
from tocsin_ingest.store.alerts.snapshot import lock_integrations
from tocsin_ingest.store.incidents import quiet, resolving
from tocsin_ingest.store.incidents.quiet import OpenIncident

_log = get_logger(__name__)

_BATCH: Final = 1000
_BATCHES_A_ROUND: Final = 20
_TOGETHER: Final = 100
_START: Final = UUID(int=0)


class QuietIncidents:
    """Reads the open incidents, 20,000 a round, after those of the last round.

    An incident is resolved only if its triggers could be accepted for that whole time.
    """

    def __init__(self, database: Database, metrics: IngestMetrics, nudge: Callable[[], None]) -> None:
        self._database = database
        self._metrics = metrics
        self._nudge = nudge
        self._position = _START

    async def round(self) -> int:
        """How many were resolved. Raises DATABASE_UNAVAILABLE."""
        async with self._database.system() as tx:
            if not await quiet.wanted(tx):
                return 0
        resolved = 0
        for _ in range(_BATCHES_A_ROUND):
            async with self._database.system() as tx:
                since = await intakes.since(tx, GAP)
                if since is None:
                    break
                page = await quiet.open_after(tx, self._position, _BATCH, since)
            self._position = page[-1].group_key if len(page) == _BATCH else _START
            resolved += await self._resolve([each for each in page if each.quiet], since)
            if self._position == _START:
                break
        return resolved

    async def _resolve(self, found: Sequence[OpenIncident], since: datetime) -> int:
        resolved = 0

        async def work(org_id: str, incidents: list[OpenIncident]) -> None:
            nonlocal resolved
            for first in range(0, len(incidents), _TOGETHER):
                resolved += await self._resolve_some(org_id, incidents[first : first + _TOGETHER], since)

        await tenant_by_tenant(found, work, name="quiet", failures=self._metrics.tenant_failures)
        return resolved

    async def _resolve_some(self, org_id: str, incidents: Sequence[OpenIncident], since: datetime) -> int:
        async def work(tx: Tx) -> dict[UUID, timedelta]:
            await lock_integrations(tx, {each.integration_id for each in incidents})
            over = await quiet.still_quiet(tx, [each.id for each in incidents], since)
            by_time: defaultdict[timedelta, list[UUID]] = defaultdict(list)
            for incident_id, after in over.items():
                by_time[after].append(incident_id)
            for after, ids in by_time.items():
                await resolving.resolve(tx, ids, INGEST, f"no alert of it has come for {words(after)}")
            return over

        over = await self._database.run(org_id, work)
        for incident_id, after in over.items():
            _log.info("incident_quiet", org_id=org_id, incident=str(incident_id), after=words(after))
        if over:
            self._metrics.quiet.inc(len(over))
            self._nudge()
        return len(over)


def words(time: timedelta) -> str:
    """`2 days 6 hours 30 minutes`."""
    minutes, seconds = divmod(round(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "day"), (hours, "hour"), (minutes, "minute"), (seconds, "second"))
    return " ".join(f"{number} {unit}{'s' * (number != 1)}" for number, unit in parts if number)
