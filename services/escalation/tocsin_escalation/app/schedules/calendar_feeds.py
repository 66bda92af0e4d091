"""Calendar feeds: made and deleted by people, read by calendar programs that have a secret and no other credential."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.auth import Principal, invalid_credential
from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.keys.secret import CHARACTERS, SHOWN, key_hash, new_key

from tocsin_escalation.app.computing import compute
from tocsin_escalation.app.people import targets
from tocsin_escalation.app.schedules import reading
from tocsin_escalation.domain.calendars.feed import MOST_SCHEDULES, Event, Shift, events_of, shifts_of, window
from tocsin_escalation.domain.calendars.ical import Names, document
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of, time_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.store.schedules import calendar_feeds as store
from tocsin_escalation.store.schedules.calendar_feeds import FeedRow, FoundFeed, Shown

PREFIX: Final = "tck_"
COLLECTION: Final = "calendarFeeds"
_SECRET: Final = re.compile(PREFIX + rf"[A-Za-z0-9_-]{{{CHARACTERS}}}")
_UNKNOWN: Final = "no such calendar feed"
_MOST_LOOKUPS: Final = 1000
_TRIES: Final = 3
_AT_ONCE: Final = 2
_MOST_WAITING: Final = 50
"""Reads of one replica that wait for the two that run. Further ones are refused, to be repeated."""
_RETRY_AFTER: Final = 5.0


async def create(tx: Tx, wanted: FeedRow) -> tuple[FeedRow, str]:
    """A new feed and its secret. Raises USER_NOT_FOUND, SCHEDULE_NOT_FOUND (as INVALID_ARGUMENT)."""
    if wanted.user_id:
        about = "calendar_feed.user", Target(TargetKind.USER, wanted.user_id)
    else:
        about = "calendar_feed.schedule", Target(TargetKind.SCHEDULE, wanted.schedule_id)
    await targets.check(tx, [about])
    secret = new_key(PREFIX)
    return await store.insert(tx, replace(wanted, prefix=secret[:SHOWN]), key_hash(secret)), secret


async def must(tx: Tx, id: UUID, *, lock: bool = False) -> FeedRow:
    """One feed of this tenant. Raises CALENDAR_FEED_NOT_FOUND."""
    row = await store.get(tx, id, lock=lock)
    if row is None:
        raise not_found(reasons.ERROR_REASON_CALENDAR_FEED_NOT_FOUND, f"{COLLECTION}/{id}")
    return row


class CalendarFeeds:
    """The feeds behind the URLs."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lookups: Batches[bytes, FoundFeed | None] = Batches(self._look_up, most=_MOST_LOOKUPS)
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def authenticate(self, token: str) -> Principal | None:
        """An `Authenticator`: the secret gives access to its feed and to nothing else. It is looked up each time, so that a
        deleted feed ends at once. Raises CREDENTIAL_INVALID.
        """
        # Text that cannot be a secret costs no query.
        found = await self._lookups.submit(key_hash(token)) if _SECRET.fullmatch(token) else None
        if found is None:
            raise invalid_credential(_UNKNOWN)
        return Principal(found.org_id, f"{COLLECTION}/{found.id}", frozenset())

    async def read(self, org_id: str, id: UUID) -> str:
        """The feed as iCalendar text. Raises CALENDAR_FEED_NOT_FOUND, OVERLOADED."""
        if self._waiting >= _MOST_WAITING:
            raise TocsinError(
                reasons.ERROR_REASON_OVERLOADED,
                "more calendars are asked for than are computed at once; come again a little later",
                metadata={"limit": "calendar_feeds"},
                retry_after=_RETRY_AFTER,
            )
        self._waiting += 1
        try:
            async with self._room:
                for _ in range(_TRIES - 1):
                    text, noted = await self._once(org_id, id)
                    if noted:
                        return text
                # Another reader was faster each time: it stores the same, except for changes of this very moment.
                return (await self._once(org_id, id))[0]
        finally:
            self._waiting -= 1

    async def _once(self, org_id: str, id: UUID) -> tuple[str, bool]:
        """The text, and whether it is stored that this was shown."""
        async with self._db.transaction(org_id) as tx:
            row = await must(tx, id)
            shown = await store.shown(tx, id) or Shown((), 0)
            now = minute_of(await tx.now())
            since, until = window(now)
            first, last = time_of(since), time_of(until)
            ids = [row.schedule_id]
            if row.user_id:
                ids = await store.schedules_naming(tx, [row.user_id], first, last, MOST_SCHEDULES + 1)
            wanted = [(org_id, each) for each in ids[:MOST_SCHEDULES]]
            begun = await reading.begin(tx, wanted, first, last)
        found = await begun.finish(self._db, org_id)
        shifts = [
            shift
            for key in wanted
            if key in found
            for shift in await compute(org_id, _shifts, found[key], since, until, row.user_id)
        ]
        events = tuple(events_of(shown.events, shifts, since, now))

        async def note(tx: Tx) -> tuple[Names, bool]:
            await store.note_fetch(tx, id)
            noted = events == shown.events or await store.show(tx, id, shown, events)
            return await _names(tx, row, events, left_out=len(ids) > MOST_SCHEDULES), noted

        names, noted = await self._db.run(org_id, note)
        return document(org_id, names, events, until), noted

    async def _look_up(self, hashes: list[bytes]) -> list[FoundFeed | None]:
        # The secret itself tells the tenant, so the tenant is not known before.
        async with self._db.system() as tx:
            found = {each.secret_hash: each for each in await store.find(tx, hashes)}
        return [found.get(digest) for digest in hashes]


def _shifts(schedule: Schedule, since: int, until: int, user: str) -> list[Shift]:
    return shifts_of(schedule.id, resolve(schedule, since, until), user)


async def _names(tx: Tx, row: FeedRow, events: Sequence[Event], *, left_out: bool) -> Names:
    users = {event.shift.user for event in events} | {event.shift.instead_of for event in events} | {row.user_id}
    schedules = {event.shift.schedule for event in events} | {row.schedule_id}
    found = await store.display_names(tx, sorted(users), sorted(schedules))
    by_user = {id: name for (kind, id), name in found.items() if kind == "user"}
    by_schedule = {id: name for (kind, id), name in found.items() if kind == "schedule"}
    about = by_user.get(row.user_id, row.user_id) if row.user_id else by_schedule.get(row.schedule_id, row.schedule_id)
    return Names(f"On call: {about}", by_user, by_schedule, bool(row.user_id), left_out)
