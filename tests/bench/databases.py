"""A database of escalation for benchmarks of its store: newly made, on a server of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import tocsin_escalation
from tocsin_kit.db.migrations import upgrade
from tocsin_kit.db.pool import Database
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch

_MIGRATIONS: Final = Path(tocsin_escalation.__file__).parent.parent / "migrations"


@asynccontextmanager
async def escalation_database() -> AsyncIterator[Database]:
    """Empty; gone at the end. The server does not sync its files."""
    with scratch("tocsin-bench-") as folder:
        postgres = Postgres(folder / "postgres", fsync=False)
        await postgres.start()
        try:
            url = await postgres.ensure_database("bench", "bench")
            await upgrade(url, _MIGRATIONS)
            db = await Database.open(url, name="bench")
            yield db
            await db.close()
        finally:
            await postgres.stop()
