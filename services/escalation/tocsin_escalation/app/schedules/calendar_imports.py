"""External calendars as layers of schedules: made and deleted by people, read again and again by a loop.

Paging never fetches a calendar: the row has its latest content.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.masks import require_etag
from tocsin_kit.secret_boxes import Boxes, SecretLost
from tocsin_kit.urls import BadUrl, read_url

from tocsin_escalation.app.people import targets
from tocsin_escalation.app.schedules.schedules import must
from tocsin_escalation.domain.calendars.matching import Event, NotRead, Reading, candidates, people_of, texts_of
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.schedules.checks import zone_problem
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import FixedShift
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.schedules import calendar_imports as store
from tocsin_escalation.store.schedules.calendar_imports import Due, ImportRow

_log = get_logger(__name__)

COLLECTION: Final = "calendarImports"
PURPOSE: Final = b"tocsin escalation calendar urls"
MOST_OF_SCHEDULE: Final = 5
MOST_SHIFTS: Final = 500
"""Shifts of one calendar: a schedule is read as a whole for each page that it decides."""
BACK: Final = timedelta(days=35)
AHEAD: Final = timedelta(days=180)
_AT_ONCE: Final = 4
_MOST_STALE: Final = 1000
_MOST_UNMATCHED: Final = 20


class Source(Protocol):
    """Reads calendars."""

    async def read(self, url: str, since: int, until: int, zone: str, most: int) -> Reading:
        """The events within [since, until) by start, at most `most`. Raises NotRead."""


class CalendarImports:
    """Use cases of people."""

    def __init__(self, boxes: Boxes, nudge: Callable[[], None], *, allow_private: bool) -> None:
        """`nudge`: a calendar is to be read."""
        self._boxes = boxes
        self._nudge = nudge
        self._allow_private = allow_private

    async def create(self, tx: Tx, row: ImportRow, url: str) -> ImportRow:
        """A new one. Raises INVALID_FIELD, SCHEDULE_NOT_FOUND and USER_NOT_FOUND (as INVALID_ARGUMENT), LIMIT_REACHED."""
        row = self._with_url(tx, row, url)
        await targets.check(
            tx, [("calendar_import.schedule", Target(TargetKind.SCHEDULE, row.schedule_id)), *_checked(row)]
        )
        await must(tx, row.schedule_id, lock=True)
        if await store.of_schedule(tx, row.schedule_id) >= MOST_OF_SCHEDULE:
            raise TocsinError(
                reasons.ERROR_REASON_LIMIT_REACHED,
                f"schedules/{row.schedule_id} has {MOST_OF_SCHEDULE} calendar imports, and may have no more; delete one",
                metadata={"limit": "calendar_imports", "allowed": str(MOST_OF_SCHEDULE)},
                retry_after=60.0,
            )
        tx.after_commit(self._nudge)
        return await store.insert(tx, row)

    async def update(
        self, tx: Tx, id: UUID, etag: str, change: Callable[[ImportRow], tuple[ImportRow, str]]
    ) -> ImportRow:
        """The import after `change`, and the new URL; an empty one keeps the old URL.

        Raises CALENDAR_IMPORT_NOT_FOUND, ETAG_MISMATCH, INVALID_FIELD, USER_NOT_FOUND (as INVALID_ARGUMENT).
        """
        before = await must_import(tx, id, lock=True)
        require_etag(etag, before.version)
        after, url = change(before)
        if url:
            after = self._with_url(tx, after, url)
        await targets.check(tx, _checked(after))
        read_anew = bool(url) or (after.names, after.time_zone) != (before.names, before.time_zone)
        if read_anew:
            tx.after_commit(self._nudge)
        return await store.update(tx, after, read_anew=read_anew)

    def _with_url(self, tx: Tx, row: ImportRow, url: str) -> ImportRow:
        try:
            # Calendar programs write webcal for a URL that is fetched by https.
            wanted = "https:" + url[len("webcal:") :] if url.lower().startswith("webcal:") else url
            host = read_url(wanted, allow_private=self._allow_private).host or ""
        except BadUrl as error:
            raise invalid("calendar_import.url", str(error)) from None
        return replace(row, url=self._boxes.close(_context(tx.org_id, row.id), wanted.encode()), host=host)


def _checked(row: ImportRow) -> list[tuple[str, Target]]:
    """The users that a row names, by field. Raises INVALID_FIELD for a zone that is not known."""
    if row.time_zone and (problem := zone_problem(row.time_zone)):
        raise invalid("calendar_import.time_zone", problem)
    return [(f"calendar_import.names[{text}]", Target(TargetKind.USER, user)) for text, user in row.names.items()]


async def must_import(tx: Tx, id: UUID, *, lock: bool = False) -> ImportRow:
    """One of this tenant. Raises CALENDAR_IMPORT_NOT_FOUND."""
    row = await store.get(tx, id, lock=lock)
    if row is None:
        raise not_found(reasons.ERROR_REASON_CALENDAR_IMPORT_NOT_FOUND, f"{COLLECTION}/{id}")
    return row


async def warnings(tx: Tx, schedule: str, stale_after: timedelta) -> list[str]:
    """What is wrong with the calendars of a schedule, in words."""
    rows, now = await store.page(tx, schedule, UUID(int=0), MOST_OF_SCHEDULE), await tx.now()
    found: list[str] = []
    for row in rows:
        name = f"{COLLECTION}/{row.id} ({row.host})"
        since = row.read_time or row.create_time or now
        if row.read_time is None:
            found.append(f"{name} was never read{f': {row.error}' if row.error else ' so far'}")
        elif now - since > stale_after:
            found.append(f"{name} could not be read since {since:%Y-%m-%d %H:%M} UTC: {row.error}")
        if row.unmatched:
            found.append(
                f"{name} has events that cannot be read, or that name no known user: {'; '.join(row.unmatched)}"
            )
        if row.cut:
            found.append(f"{name} has more than {MOST_SHIFTS} shifts; later ones are left out")
    return [text[:1024] for text in found]


class ReadCalendars:
    """The loop that reads them."""

    def __init__(
        self,
        db: Database,
        source: Source,
        boxes: Boxes,
        metrics: EscalationMetrics,
        *,
        every_seconds: float,
        stale_after: timedelta,
    ) -> None:
        self._db = db
        self._source = source
        self._boxes = boxes
        self._metrics = metrics
        self._every_seconds = every_seconds
        self._stale_after = stale_after
        self._told: set[UUID] = set()

    async def round(self) -> None:
        """Due calendars, a few at a time."""
        while True:
            async with self._db.system() as tx:
                # The next time is set before anything is fetched: a calendar that crashes a process is not read at once by the
                # next process.
                due = await store.claim(tx, self._every_seconds, _AT_ONCE)
                now = await tx.now()
            since, until = minute_of(now - BACK), minute_of(now + AHEAD)
            await asyncio.gather(*(self._read(each, since, until) for each in due))
            if len(due) < _AT_ONCE:
                return

    async def watch(self) -> None:
        """Report calendars that could not be read for long."""
        async with self._db.system() as tx:
            stale = await store.stale(tx, self._stale_after, _MOST_STALE)
        self._metrics.calendars_stale.set(len(stale))
        for each in stale:
            if each.id not in self._told:
                read = f"{each.read_time:%Y-%m-%d %H:%M} UTC" if each.read_time else "never"
                _log.warning(
                    "calendar_stale",
                    org_id=each.org_id,
                    schedule=each.schedule_id,
                    calendar=f"{COLLECTION}/{each.id}",
                    read=read,
                    error=each.error,
                )
        self._told = {each.id for each in stale}

    async def _read(self, due: Due, since: int, until: int) -> None:
        try:
            url = self._boxes.open(_context(due.org_id, due.id), due.url).decode()
            found = await self._source.read(url, since, until, due.zone, MOST_SHIFTS)
        except (NotRead, SecretLost) as error:
            self._metrics.calendars_read.labels("failed").inc()
            text = str(error)[:1024]
            await self._db.run(due.org_id, lambda tx: store.note_error(tx, due, text))
            return
        self._metrics.calendars_read.labels("read").inc()

        async def note(tx: Tx) -> None:
            shifts, unmatched = _shifts(found.events, await _known(tx, due.names, found.events))
            told = [*(f"{text} (cannot be read)"[-255:] for text in found.unread), *unmatched]
            await store.note_read(tx, due, shifts, told[:_MOST_UNMATCHED], cut=found.cut)

        await self._db.run(due.org_id, note)


async def _known(tx: Tx, names: Mapping[str, str], events: Sequence[Event]) -> dict[str, str]:
    texts = {
        candidate
        for event in events
        for texts in texts_of(event.attendees, event.summary)
        for text in texts
        for candidate in candidates(text)
    }
    return await store.known(tx, texts) | {" ".join(text.lower().split()): user for text, user in names.items()}


def _shifts(events: Sequence[Event], known: Mapping[str, str]) -> tuple[list[FixedShift], list[str]]:
    """The shifts, and the summaries of events that name no known user."""
    shifts: list[FixedShift] = []
    unmatched: dict[str, None] = {}
    for event in events:
        if people := people_of(event.attendees, event.summary, known):
            shifts.append(FixedShift(event.start, event.end, people))
        else:
            unmatched[event.summary or ", ".join(event.attendees)] = None
    return shifts, [text[:255] for text in unmatched][:_MOST_UNMATCHED]


def _context(org_id: str, id: UUID) -> str:
    return f"{org_id}/{COLLECTION}/{id}"
