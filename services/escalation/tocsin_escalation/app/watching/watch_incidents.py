"""Streams of incident changes: one reader for each tenant that has a stream in this process.

PostgreSQL is read when a hint says that a tenant has changes, and once a second for all these tenants together, so a lost hint
costs a second. Streams get the changes that their tenant's reader found. A stream that resumes with a cursor reads by itself
until it has reached the reader's place.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.auth import Principal
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import Rounds, run_every, wait_or_stop
from tocsin_kit.rpc.live_streams import LiveStream, LiveStreams

from tocsin_escalation.store.incidents import changes, escalations
from tocsin_escalation.store.incidents.changes import ChangeRow, Horizon, Position
from tocsin_escalation.store.incidents.escalations import EscalationRow

_log = get_logger(__name__)

PAGE: Final = 200
"""Changes of one message at most."""
MOST_WAITING: Final = 1000
"""Changes that may wait for a slow reader."""
KEPT: Final = timedelta(hours=24)
"""How old a cursor may be. Incidents are kept for a day or more after they ended, so none of its changes is missing."""
_SHOWN: Final = KEPT + timedelta(hours=1)
"""An entry is as old as the beginning of its transaction, which is a little older than cursors before it."""
_LOOK_SECONDS: Final = 1.0
_STALE_SECONDS: Final = 5.0
"""If changes could not be read for this long, no heartbeat says that there are none."""
_MOST_READING: Final = 4
_HELD_UP_SECONDS: Final = 0.002
_MOST_HELD_UP_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place of a stream."""

    position: Position
    epoch: str
    time: datetime
    """When that was the end of the readable changes, or when the change before it was made."""


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of a timeline, and its incident as it was when the entry was read."""

    row: ChangeRow
    incident: EscalationRow


@dataclass(frozen=True, slots=True)
class WatchFilter:
    """The filter of a stream; an empty field matches all."""

    states: frozenset[str] = frozenset()
    severities: frozenset[int] = frozenset()
    policy: str = ""
    team: str = ""
    assignee: str = ""
    labels: frozenset[tuple[str, str]] = frozenset()
    incidents: frozenset[UUID] = frozenset()

    def fits(self, change: Change) -> bool:
        """Whether the incident matches after the change."""
        run = change.incident.run
        policy = run.policy
        return (
            (not self.incidents or run.incident_id in self.incidents)
            and (not self.states or change.row.entry.state in self.states)
            and (not self.severities or run.facts.severity in self.severities)
            and (not self.policy or (policy is not None and policy.id == self.policy))
            and (not self.team or (policy is not None and policy.team == self.team))
            and (not self.assignee or self.assignee in run.assignees)
            and self.labels <= run.facts.labels.items()
        )


@dataclass(slots=True)
class Batch:
    """Changes for one message, and the cursor after them. Empty: there are none up to the cursor."""

    changes: list[Change]
    cursor: Cursor
    message: object = field(default=None)
    """Converted once for all streams with the same filter."""


@dataclass(frozen=True, slots=True)
class _Page:
    batch: Batch
    more: bool
    held_up: bool


class Feeds:
    """The readers of this process, one for each watched tenant."""

    def __init__(
        self, db: Database, streams: LiveStreams, *, most_waiting: int = MOST_WAITING, page: int = PAGE
    ) -> None:
        self._db = db
        self._streams = streams
        self._most_waiting = most_waiting
        self._page = page
        self._feeds: dict[str, _Feed] = {}
        self._reading = asyncio.Semaphore(_MOST_READING)
        self._looked = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return len(self._feeds)

    def changed(self, org_ids: Iterable[str]) -> None:
        """A hint: these tenants have committed changes."""
        for org_id in org_ids:
            feed = self._feeds.get(org_id)
            if feed is not None:
                self._advance_soon(feed)

    async def run(self, ended: asyncio.Event) -> None:
        """The loop: finds changes without a hint. Must run in every process that serves calls."""
        await run_every(_LOOK_SECONDS, self.look, ended)
        self._ended.set()
        for task in tuple(self._tasks):
            task.cancel()

    async def look(self) -> None:
        """One round. Raises DATABASE_UNAVAILABLE."""
        places = {org_id: feed.cursor for org_id, feed in self._feeds.items() if feed.cursor is not None}
        if places:
            async with self._db.system() as tx:
                horizon = await changes.horizon(tx)
                found = await changes.newer(tx, {org_id: cursor.position for org_id, cursor in places.items()})
            self.changed(found)
            for org_id in places.keys() - found:
                self._note_quiet(org_id, places[org_id], horizon)
        self._looked = time.monotonic()

    def _note_quiet(self, org_id: str, place: Cursor, horizon: Horizon) -> None:
        """There is nothing between `place` and the horizon: a stream of a quiet tenant must not resume with an old cursor."""
        feed = self._feeds.get(org_id)
        if feed is None or feed.cursor is not place:
            return
        if horizon.epoch != place.epoch or horizon.end < place.position:
            feed.restart(Cursor(horizon.end, horizon.epoch, horizon.now))
        else:
            feed.cursor = Cursor(horizon.end, horizon.epoch, horizon.now)

    async def watch(
        self, principal: Principal, wanted: WatchFilter, cursor: Cursor | None
    ) -> AsyncGenerator[Batch, None]:
        """The matching changes of the caller's tenant from the cursor on, without end.

        Raises CURSOR_TOO_OLD, WATCH_TOO_SLOW, SERVICE_UNAVAILABLE when the process stops, DATABASE_UNAVAILABLE, and the error of
        a credential that ends.
        """
        with self._entered(principal.org_id) as feed:
            stream = LiveStream(principal, lambda: self._heartbeat(feed), self._most_waiting)
            self._streams.add(stream)
            try:
                place = await self._begin(feed, cursor)
                async for batch in self._catch_up(feed, place, wanted):
                    stream.check()
                    yield batch
                # There is no await between the end of the loop above and this line, so no change can come in between.
                feed.attach(wanted, stream)
                assert feed.cursor is not None, "it was read"
                yield Batch([], feed.cursor)
                while True:
                    yield await stream.next()
            finally:
                feed.detach(wanted, stream)
                self._streams.remove(stream)

    async def _begin(self, feed: "_Feed", cursor: Cursor | None) -> Cursor:
        """Where a stream begins; the feed has been read at least up to there."""
        known = feed.cursor is not None and cursor is not None and cursor.position <= feed.cursor.position
        if not known and await self._advance(feed):
            self._advance_soon(feed)
        assert feed.cursor is not None, "it was read"
        if cursor is None:
            return feed.cursor
        too_old = feed.cursor.time - cursor.time > KEPT
        if too_old or cursor.epoch != feed.cursor.epoch or cursor.position > feed.cursor.position:
            raise _too_old("the cursor is older than 24 hours") if too_old else _restored()
        return cursor

    async def _catch_up(self, feed: "_Feed", place: Cursor, wanted: WatchFilter) -> AsyncGenerator[Batch, None]:
        """The changes since `place` that the feed's other streams have got. Afterwards both are at the same place."""
        while feed.cursor is not None and place.position < feed.cursor.position:
            page = await self._read(feed.org_id, place.position, feed.cursor.position)
            place = page.batch.cursor
            if place.epoch != feed.cursor.epoch:
                raise _restored()
            yield _fitting(page.batch, wanted)

    def _heartbeat(self, feed: "_Feed") -> Batch | None:
        if feed.cursor is None or time.monotonic() - self._looked > _STALE_SECONDS:
            return None
        return Batch([], feed.cursor)

    @contextmanager
    def _entered(self, org_id: str) -> "Iterator[_Feed]":
        feed = self._feeds.get(org_id)
        if feed is None:
            feed = self._feeds[org_id] = _Feed(org_id)
        feed.users += 1
        try:
            yield feed
        finally:
            feed.users -= 1
            if not feed.users:
                self._feeds.pop(org_id, None)

    def _advance_soon(self, feed: "_Feed") -> None:
        feed.asked = True
        if feed.task is None:
            feed.task = asyncio.create_task(self._follow(feed))
            self._tasks.add(feed.task)
            feed.task.add_done_callback(self._tasks.discard)

    async def _follow(self, feed: "_Feed") -> None:
        """Reads while there are changes. After a failure the next round finds them."""
        pause = _HELD_UP_SECONDS
        try:
            while feed.asked and feed.users:
                feed.asked = False
                if await self._advance(feed):
                    # An older transaction is still under way; it mostly ends within a millisecond.
                    await wait_or_stop(self._ended, pause)
                    pause = min(2 * pause, _MOST_HELD_UP_SECONDS)
                    feed.asked = True
        except TocsinError as error:
            _log.warning("changes_not_read", org_id=feed.org_id, reason=error.reason_name, error=error.message)
        finally:
            feed.task = None

    async def _advance(self, feed: "_Feed") -> bool:
        """Reads all changes and distributes them. Returns whether entries wait for an older transaction. Raises
        DATABASE_UNAVAILABLE.

        Callers that come while a read is under way share the next one.
        """
        return bool(await feed.rounds.after_now(lambda: self._read_on(feed)))

    async def _read_on(self, feed: "_Feed") -> bool:
        while True:
            before = feed.cursor
            page = await self._read(feed.org_id, before.position if before else None, None)
            cursor = page.batch.cursor
            if before is not None and (before.epoch != cursor.epoch or cursor.position < before.position):
                feed.restart(cursor)
                return False
            feed.hand_out(page.batch)
            if not page.more:
                return page.held_up

    async def _read(self, org_id: str, behind: Position | None, until: Position | None) -> _Page:
        """One page. `behind` None: only the place where changes begin. `until`: what follows it is left out."""
        async with self._reading, self._db.transaction(org_id) as tx:
            horizon = await changes.horizon(tx)
            if behind is None or horizon.end < behind:
                return _Page(Batch([], Cursor(horizon.end, horizon.epoch, horizon.now)), more=False, held_up=False)
            page = await changes.after(tx, behind, horizon, self._page)
            rows, end = page.changes, page.end
            if until is not None and end > until:
                rows, end = [row for row in rows if row.position <= until], until
            # An entry from before a restore may carry a number that is only reached now.
            rows = [row for row in rows if horizon.now - row.entry.create_time <= _SHOWN]
            runs = await escalations.get_many(tx, list({row.incident_id for row in rows})) if rows else {}
        found = [Change(row, runs[row.incident_id]) for row in rows if row.incident_id in runs]
        reached = rows[-1].entry.create_time if page.more and rows else horizon.now
        return _Page(Batch(found, Cursor(end, horizon.epoch, reached)), page.more, page.held_up)


class _Feed:
    """One tenant's reader: how far it has read, and its streams."""

    def __init__(self, org_id: str) -> None:
        self.org_id: Final = org_id
        self.users = 0
        self.cursor: Cursor | None = None
        self.rounds: Final = Rounds()
        self.asked = False
        self.task: asyncio.Task[None] | None = None
        self._groups: dict[WatchFilter, set[LiveStream[Batch]]] = {}

    def attach(self, wanted: WatchFilter, stream: LiveStream[Batch]) -> None:
        """The stream gets what is read from now on."""
        self._groups.setdefault(wanted, set()).add(stream)

    def detach(self, wanted: WatchFilter, stream: LiveStream[Batch]) -> None:
        """The stream gets nothing any more."""
        group = self._groups.get(wanted)
        if group is not None:
            group.discard(stream)
            if not group:
                del self._groups[wanted]

    def hand_out(self, batch: Batch) -> None:
        """Streams with the same filter get the same object."""
        self.cursor = batch.cursor
        if not batch.changes:
            return
        for wanted, streams in self._groups.items():
            fitting = _fitting(batch, wanted)
            if fitting.changes:
                for stream in streams:
                    stream.offer(fitting, len(fitting.changes))

    def restart(self, cursor: Cursor) -> None:
        """The database was restored: changes that were sent may not exist any more."""
        self.cursor = cursor
        for streams in self._groups.values():
            for stream in streams:
                stream.end(_restored())


def _too_old(what: str) -> TocsinError:
    return TocsinError(ErrorReason.ERROR_REASON_CURSOR_TOO_OLD, f"{what}; list anew, and watch without a cursor")


def _restored() -> TocsinError:
    return _too_old("the database was restored or replaced since the cursor was made")


def _fitting(batch: Batch, wanted: WatchFilter) -> Batch:
    if wanted == _ANY:
        return batch
    return Batch([change for change in batch.changes if wanted.fits(change)], batch.cursor)


_ANY: Final = WatchFilter()
