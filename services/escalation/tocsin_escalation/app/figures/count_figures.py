"""Counts timeline entries some seconds after they were written, tenant by tenant."""

from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_escalation.store.figures import counting
from tocsin_escalation.store.incidents import changes

_log = get_logger(__name__)

_TENANTS: Final = 500
_ENTRIES: Final = 2000
"""Entries in one transaction: about ten milliseconds of PostgreSQL's time."""
_MOST_LOST: Final = 3
"""If the database fails for this many tenants in a row, it counts as away."""


class CountFigures:
    """Counts the figures of all tenants. Two replicas share the work: a tenant that one of them is counting is skipped by the
    other."""

    def __init__(self, db: Database, *, entries: int = _ENTRIES) -> None:
        self._db = db
        self._entries = entries
        self._lost = 0

    async def everything(self) -> None:
        """One round. A tenant with many entries alternates with the others."""
        after, waiting = "", list[str]()
        while True:
            async with self._db.autocommit() as tx:
                found = await counting.tenants(tx, after, _TENANTS)
            waiting += [org_id for org_id, new in found if new]
            if len(found) < _TENANTS:
                break
            after = found[-1][0]
        self._lost = 0
        while waiting:
            waiting = [org_id for org_id in waiting if await self._tried(org_id)]

    async def _tried(self, org_id: str) -> bool:
        """As `_some`. A tenant that cannot be counted holds up no other; it is tried again in the next round."""
        try:
            more = await self._some(org_id)
        except TocsinError:
            # The database is away, or it ended a transaction that took too long for this tenant.
            self._lost += 1
            if self._lost >= _MOST_LOST:
                raise
            _log.warning("counting_lost", org_id=org_id)
            return False
        except Exception:
            _log.exception("counting_failed", org_id=org_id)
            return False
        self._lost = 0
        return more

    async def _some(self, org_id: str) -> bool:
        """Count the tenant's next entries; returns whether there are more."""
        async with self._db.transaction(org_id) as tx:
            place = await counting.begin(tx)
            if place is None:
                return False
            horizon = await changes.horizon(tx)
            end, more = await counting.end_of(tx, place, horizon.settled, self._entries)
            await counting.count(tx, place, end)
        return more
