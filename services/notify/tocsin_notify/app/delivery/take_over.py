"""Attempts whose lease is over and that this process may make again, except those whose owner may only be unable to
write.

A provider's answer that cannot be written down is kept until it can be (`app.delivery.outcomes`). While PostgreSQL is
away, full or read-only, leases run out although such answers exist. When it is back, the first process to look would
repeat calls that were answered long ago. So a process that finds an expired lease first gives its owner more time
(`senders.prolong`), if this process has just reconnected itself, or could not write when it tried. It does so `_MOST`
times at most: with a database that goes away again and again, a page that rings twice is better than one that never
rings.

Another transaction may hold the rows while all else can be written: an operator's, or a migration's. Then their owners alone
cannot write, and a process that saw this gives them time too once the rows are free: each row `_MOST` times at most. A process
that did not see it takes a row only when it has been over and free for `_APART_SECONDS`: by then each other one has looked, and
has given time if it saw the row locked. The rows of a process that is known to be dead do not wait: nobody has their answers.

A database whose clock is set forward ends all leases at once, also those of calls that are under way. They get a whole
lease again.
"""

import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit import wall_clock
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.store.delivery import candidates, senders
from tocsin_notify.store.delivery.candidates import Candidate
from tocsin_notify.store.delivery.senders import RECOVERY_SECONDS, Presence

_log = get_logger(__name__)

_MOST: Final = 3
_MOST_ROWS: Final = 1000
_APART_SECONDS: Final = 1.2
"""A little longer than from one look of a process to its next (`wiring.delivery`)."""
_FORGET_SECONDS: Final = 60.0
"""After this time a row that is locked again is given time anew."""


class _Seen:
    """What the looks of one process saw of rows whose lease is over."""

    def __init__(self) -> None:
        self._held = frozenset[UUID]()
        """Those that the last look found in the hands of another transaction."""
        self._free = dict[UUID, tuple[datetime, float]]()
        """Those that the last look found free, with the end of their lease, and since when each look has found them so."""
        self._dead = dict[UUID, tuple[datetime, float]]()
        """Those whose owner is dead, with the end of the lease that it had, and since when this is known."""
        self._times_given = dict[UUID, tuple[int, float]]()
        """How often a row was given time because it had been locked, and when the last time was."""

    def judge(self, found: Collection[UUID], free: Mapping[UUID, datetime], now: float) -> tuple[set[UUID], set[UUID]]:
        """Which rows may be taken, and which are given time, after a look that found these over, and these of them free, with the
        end of their lease. `now`: in seconds."""
        self._times_given = {id: given for id, given in self._times_given.items() if now - given[1] < _FORGET_SECONDS}
        self._dead = {
            id: (end, since)
            for id, (end, since) in self._dead.items()
            if now - since < _FORGET_SECONDS and free.get(id, end) == end  # or another one has made the call since
        }
        times = {id: self._times_given.get(id, (0, 0.0))[0] for id in (self._held & free.keys()) - self._dead.keys()}
        give = {id for id, count in times.items() if count < _MOST}
        self._times_given |= {id: (times[id] + 1, now) for id in give}
        self._held = frozenset(found) - free.keys()
        self._free = {id: (end, self._since(id, end, now)) for id, end in free.items() if id not in give}
        apart = {id for id, (_, since) in self._free.items() if now - since >= _APART_SECONDS}
        return apart | (free.keys() & self._dead.keys()), give

    def died(self, ended: Mapping[UUID, datetime], now: float) -> None:
        """The owner of these is dead: with this end of their lease they wait for nothing. `now`: in seconds."""
        self._dead |= {id: (end, now) for id, end in ended.items()}

    def failed(self) -> None:
        """A look failed, so rows may have been locked meanwhile."""
        self._free.clear()

    def _since(self, id: UUID, end: datetime, now: float) -> float:
        known, since = self._free.get(id, (end, now))
        return since if known == end else now


class TakeOver:
    """The attempts that one process may take over from others."""

    def __init__(
        self,
        db: Database,
        presence: Presence,
        in_hand: Callable[[UUID], bool],
        *,
        lease: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`in_hand`: whether this process has a call of the notification under way, or an outcome of it that is not
        written yet. `lease`: of an attempt, in seconds. `clock`: the one of `Presence.since`, in seconds."""
        self._db = db
        self._presence = presence
        self._in_hand = in_hand
        self._lease = lease
        self._clock = clock
        self._failed = False
        self._prolonged = 0
        """How often all leases were prolonged since the last take-over."""
        self._seen = _Seen()

    async def find(self) -> list[Candidate]:
        """Attempts that may be claimed now. Call it when a lease is over. Raises DATABASE_UNAVAILABLE."""
        if self._prolonged < _MOST and (self._failed or self._is_back()):
            await self._give_time(
                RECOVERY_SECONDS, "PostgreSQL was away: their owners may have answers that they could not write down"
            )
            return []
        if self._prolonged < _MOST and await self._is_set():
            await self._give_time(self._lease, "PostgreSQL's clock was set ahead: their owners may be calling")
            return []
        try:
            found, free = await self._look()
        except TocsinError:
            self._seen.failed()
            raise
        take, let_go = self._seen.judge([each.id for each in found], free, self._clock())
        if let_go:
            await self._give_time(
                RECOVERY_SECONDS, "their rows were locked: their owners may have answers not written down", let_go
            )
        return [each for each in found if each.id in take and not self._in_hand(each.id)]

    def died(self, ended: Mapping[UUID, datetime]) -> None:
        """The process that made these attempts is dead: they wait for no answer of it. `ended`: when their leases ended."""
        self._seen.died(ended, self._clock())

    def taken(self, count: int) -> None:
        """So many of the attempts that were found were claimed."""
        if count:
            self._failed, self._prolonged = False, 0

    def failed(self) -> None:
        """The attempts that were found could not be claimed."""
        self._failed = True

    async def _look(self) -> tuple[list[Candidate], dict[UUID, datetime]]:
        """Those whose lease is over; and those of them that nobody holds, with the end of their lease."""
        async with self._db.autocommit() as tx:
            # The limit covers all attempts that a few dead replicas can have had under way, so that attempts which may
            # not be taken do not hide those that may.
            found = await candidates.expired(tx, _MOST_ROWS)
        if not found:
            return [], {}
        async with self._db.autocommit() as tx:
            return found, await candidates.unlocked(tx, [each.id for each in found])

    def _is_back(self) -> bool:
        """PostgreSQL was away a moment ago, or still is for the session that this process holds open."""
        since = self._presence.since
        return since is None or self._clock() - since < RECOVERY_SECONDS

    async def _is_set(self) -> bool:
        """PostgreSQL's clock was set ahead a moment ago, so that leases ended before their time."""
        await self._db.ping(rights=False)
        return wall_clock.was_set_ahead(self._lease)

    async def _give_time(self, seconds: float, meaning: str, only: Collection[UUID] | None = None) -> None:
        try:
            async with self._db.system() as tx:
                given = await senders.prolong(tx, seconds, only)
        except TocsinError:
            self._failed = True
            raise
        if only is None:
            self._failed = False
            self._prolonged += 1
        if given:
            _log.warning(
                "leases_prolonged",
                notifications=given,
                seconds=seconds,
                meaning=meaning,
            )
