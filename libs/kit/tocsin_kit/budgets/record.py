"""Limits that operators set for a tenant: rows of `tenant_limits`, which every replica reads every two seconds."""

from collections.abc import Mapping
from typing import Final

from tocsin_kit.budgets.budgets import Budgets
from tocsin_kit.budgets.limits import OUTBOX_ROWS
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.loops import Sweep

_READ_SECONDS: Final = 1.5
_COUNTED: Final = 1_000_000
_LEAST_ROWS: Final = 1000
_ROUNDS_PER_COUNT: Final = 5
"""Counting a long outbox is slow, and no tenant adds that much in between."""

_READ: Final = "SELECT org_id, name, allowed FROM tenant_limits ORDER BY org_id, name"
_SET: Final = """
INSERT INTO tenant_limits (org_id, name, allowed, subject) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_id, name) DO UPDATE SET allowed = excluded.allowed, subject = excluded.subject, update_time = app_now()
"""
_RESET: Final = "DELETE FROM tenant_limits WHERE org_id = $1 AND name = $2"
# Of all tenants at once: this finds each tenant with many waiting rows, however many tenants there are.
_ROWS: Final = f"""
SELECT org_id, count(*)::int AS rows FROM (SELECT org_id FROM outbox WHERE dead_time IS NULL LIMIT {_COUNTED}) AS waiting
GROUP BY org_id HAVING count(*) >= {_LEAST_ROWS}
"""


async def change(tx: Tx, org_id: str, allowed: Mapping[str, int], subject: str) -> None:
    """Sets limits of a tenant; 0 goes back to the default."""
    for name, value in allowed.items():
        if value:
            await tx.execute(_SET, org_id, name, value, subject)
        else:
            await tx.execute(_RESET, org_id, name)


async def read(tx: Tx) -> dict[str, dict[str, int]]:
    """What was chosen, by tenant and name."""
    chosen: dict[str, dict[str, int]] = {}
    for row in await tx.fetch(_READ):
        chosen.setdefault(row["org_id"], {})[row["name"]] = row["allowed"]
    return chosen


class Record:
    """Keeps `budgets` up to date with the database."""

    def __init__(self, database: Database, budgets: Budgets) -> None:
        self._database = database
        self._budgets = budgets
        self._round = 0
        self.sweep = Sweep(_READ_SECONDS, self.refresh)
        """A loop for the service to add; without the database the limits stay unchanged."""

    async def refresh(self) -> None:
        """Once. Raises DATABASE_UNAVAILABLE."""
        counts = OUTBOX_ROWS in self._budgets.limits and self._round % _ROUNDS_PER_COUNT == 0
        async with self._database.autocommit() as tx:
            chosen = await read(tx)
        self._budgets.choose(chosen)
        if counts:
            async with self._database.autocommit() as tx:
                rows = await tx.fetch(_ROWS)
            self._budgets.note_rows({row["org_id"]: row["rows"] for row in rows})
        self._round += 1
