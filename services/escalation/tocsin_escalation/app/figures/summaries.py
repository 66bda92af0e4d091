"""Queries about the past, a few at a time: each may keep PostgreSQL busy for a second, and commands share its connections."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tocsin_kit.db.pool import Database

from tocsin_escalation.app.schedules import reading
from tocsin_escalation.domain.figures import (
    DigestFigures,
    DigestPerson,
    IncidentFigures,
    OwnShift,
    PageFigures,
    Question,
)
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.questions import shifts
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.store.figures import digests, figures, page_figures
from tocsin_escalation.store.schedules import calendar_feeds, on_call

_AT_ONCE: Final = 2
"""Queries at once in this process."""
AHEAD: Final = timedelta(days=14)
"""How far digests look for the next shifts of their users."""
_MOST_SCHEDULES: Final = 200
_MOST_SHIFTS: Final = 5


@dataclass(slots=True)
class _Line:
    """A tenant's queries: one runs, the others wait for it and occupy no place of other tenants."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


class Summaries:
    """Returns at most `limit` rows, and the time up to which the tenant's timeline is counted."""

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
            return await page_figures.of_pages(tx, question, limit), await figures.counted_until(tx)

    async def for_digests(
        self, org_id: str, users: Sequence[str], start: datetime, end: datetime
    ) -> tuple[DigestFigures, list[DigestPerson]]:
        """The content of these users' digests for [start, end), and their next shifts."""
        async with self._place(org_id):
            async with self._db.transaction(org_id) as tx:
                common = await digests.of_tenant(tx, start, end)
                people = await digests.of_users(tx, users, start, end)
                now = await tx.now()
                until = now + AHEAD
                named = [id for id, _, _ in people]
                ids = await calendar_feeds.schedules_naming(tx, named, now, until, _MOST_SCHEDULES + 1)
                begun = await reading.begin(tx, [(org_id, id) for id in ids[:_MOST_SCHEDULES]], now, until)
                names = await calendar_feeds.display_names(tx, (), ids)
            found = await begun.finish(self._db, org_id)
            titles = {id: name or id for (_, id), name in names.items()}
            shifts_of = await asyncio.to_thread(_next_shifts, found, titles, named, minute_of(now), minute_of(until))
        incomplete = len(ids) > _MOST_SCHEDULES
        return common, [
            DigestPerson(id, pages, acknowledged, shifts_of[id], incomplete) for id, pages, acknowledged in people
        ]

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


def _next_shifts(
    schedules: Mapping[on_call.Key, Schedule], titles: Mapping[str, str], users: Sequence[str], now: int, until: int
) -> dict[str, tuple[OwnShift, ...]]:
    """The next shifts of each user, by their start."""
    found: dict[str, list[OwnShift]] = {user: [] for user in users}
    for (_, id), schedule in schedules.items():
        segments = resolve(schedule, now, until)
        for user in {person for segment in segments for person in segment.people} & found.keys():
            found[user] += (OwnShift(titles.get(id, id), each.start, each.end) for each in shifts(segments, user))
    return {user: tuple(sorted(each, key=_by_start)[:_MOST_SHIFTS]) for user, each in found.items()}


def _by_start(shift: OwnShift) -> tuple[int, str]:
    return shift.start, shift.schedule
