"""Questions about the past, a few at a time: each may keep PostgreSQL busy for a second, and commands share its connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Database

from tocsin_escalation.domain.figures import IncidentFigures, PageFigures, Question
from tocsin_escalation.store import figures

_AT_ONCE: Final = 2
"""In this process."""


@dataclass(slots=True)
class _Line:
    """A tenant's questions: one is answered, the others wait for it and take no place of other tenants."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


class Summaries:
    """Answers at most `limit` rows, and until when the tenant's timeline is counted."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._lines: dict[str, _Line] = {}

    async def of_incidents(
        self, org_id: str, question: Question, limit: int
    ) -> tuple[list[IncidentFigures], datetime | None]:
        """Raises INVALID_FIELD for a zone that PostgreSQL does not know."""
        async with self._place(org_id), self._db.transaction(org_id) as tx:
            return await figures.of_incidents(tx, question, limit), await figures.counted_until(tx)

    async def of_pages(self, org_id: str, question: Question, limit: int) -> tuple[list[PageFigures], datetime | None]:
        """The same for pages."""
        async with self._place(org_id), self._db.transaction(org_id) as tx:
            return await figures.of_pages(tx, question, limit), await figures.counted_until(tx)

    @asynccontextmanager
    async def _place(self, org_id: str) -> AsyncIterator[None]:
        line = self._lines.setdefault(org_id, _Line())
        line.callers += 1
        try:
            async with line.lock, self._places:
                yield
        finally:
            line.callers -= 1
            if not line.callers:
                del self._lines[org_id]
