"""Rows that a relay delivers separately: rows that were refused, and rows of tenants whose rows are refused or slow.

Each delivery here holds rows of one tenant, and a tenant has one delivery at a time, so no other tenant waits for it. A tenant is
released as soon as a delivery of its rows succeeds. All of this is in memory: a new process learns it again by one failed
delivery. Refused rows are found by their column.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import grpc

from tocsin_kit.db.outbox_claims import Claims
from tocsin_kit.db.outbox_rows import OutboxRow
from tocsin_kit.db.relay_delivery import Sets
from tocsin_kit.db.relay_settling import Settled
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import backoff

_log = get_logger(__name__)

_REFUSED_ROWS: Final = 32
"""Rows refused before that one claim takes; each is one call."""
_QUIET: Final = 5
"""Sweeps that are skipped while the common deliveries see no refused row: their claims check for one, too."""
_PAUSE_BASE: Final = 0.05
_PAUSE_CAP: Final = 1.0


class DeliverAndSettle(Protocol):
    """Delivers and settles rows of one tenant."""

    def __call__(self, rows: Sequence[OutboxRow], *, alone: bool = False) -> Awaitable[Settled]:
        """`alone`: the rows are of one tenant in quarantine."""
        ...


@dataclass(slots=True)
class _Quarantined:
    limit: int
    """Rows of its next delivery; halved each time it is slow."""
    failures: int = 0
    not_before: float = 0.0


class Quarantine:
    """At most `sets.parallel` deliveries at once, each of another tenant."""

    def __init__(
        self,
        claims: Claims,
        deliver_and_settle: DeliverAndSettle,
        *,
        sets: Sets,
        sweep_every: float,
        away: Callable[[], bool],
        shares: Callable[[str], bool],
        released: Callable[[], None],
    ) -> None:
        """`away`: whether the receiver is away. `shares`: whether a common delivery under way has rows of a tenant. `released` is
        called when a tenant may share deliveries with others again."""
        self._sets = sets
        self._shares = shares
        self._released = released
        self._claims = claims
        self._deliver_and_settle = deliver_and_settle
        self._sweep_every = sweep_every
        self._away = away
        self._quarantined: dict[str, _Quarantined] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._nudged = asyncio.Event()
        self._refused = True
        self._cursor = ""

    @property
    def tenants(self) -> set[str]:
        """Tenants whose rows must not be sent with those of others."""
        return set(self._quarantined)

    def nudge(self) -> None:
        """A row may be due."""
        if self._quarantined:
            self._nudged.set()

    def look(self) -> None:
        """The receiver is back."""
        self._nudged.set()

    def there_are(self, *, refused: bool) -> None:
        """Whether a claim of the common deliveries has seen refused rows. Only these need each sweep."""
        if refused and not self._refused:
            self._nudged.set()
        self._refused = refused

    def add(self, tenants: Iterable[str]) -> None:
        """A delivery was refused because of these tenants' rows."""
        for org_id in tenants:
            self._quarantined.setdefault(org_id, _Quarantined(self._sets.rows))
            self._nudged.set()

    def slow(self, tenants: Iterable[str], *, rows: int) -> None:
        """A delivery of `rows` rows of these tenants got no answer, while others did."""
        for org_id in tenants:
            quarantined = self._quarantined.setdefault(org_id, _Quarantined(self._sets.rows))
            quarantined.limit = max(1, min(quarantined.limit, rows) // 2)
            _postpone(quarantined)
            self._nudged.set()

    def refused(self, pauses: Mapping[str, Sequence[float]]) -> None:
        """Rows of these tenants are due again after so many seconds."""
        # In steps of 0.1 s, so that many rows make few timers.
        for pause in {math.ceil(each * 10) / 10 for some in pauses.values() for each in some}:
            asyncio.get_running_loop().call_later(pause, self._nudged.set)

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped; then the deliveries under way finish. When cancelled, they are cut short."""
        try:
            while not stop.is_set():
                self._nudged.clear()
                try:
                    if not self._away():
                        await self._round()
                except TocsinError as error:
                    if error.code is not grpc.StatusCode.UNAVAILABLE:
                        raise
                await self._wait()
        finally:
            await self._wait_for_deliveries(cancel=not stop.is_set())

    async def run_once(self) -> int:
        """One round, to its end; how many rows it delivered."""
        rows = await self._round()
        await asyncio.gather(*self._busy.values())
        return rows

    async def _round(self) -> int:
        """Start as many as allowed; returns how many rows that are."""
        started = 0
        now = time.monotonic()
        for org_id, quarantined in list(self._quarantined.items()):
            if org_id in self._busy or quarantined.not_before > now or len(self._busy) >= self._sets.parallel:
                continue
            claimed = await self._claims.of(org_id, quarantined.limit)
            if claimed.rows:
                started += len(claimed.rows)
                self._start(org_id, claimed.rows)
            elif self._shares(org_id):
                # None is free, but some are under way: outside, they would be sent together again, and hang again.
                _postpone(quarantined)
            elif not claimed.more:
                self._leaves(org_id)
        if len(self._busy) < self._sets.parallel:
            claimed = await self._claims.refused(_REFUSED_ROWS, after=self._cursor, without=self._busy.keys())
            self._cursor = claimed.cursor
            started += len(claimed.rows)
            for org_id in {row.org_id for row in claimed.rows}:
                self._start(org_id, [row for row in claimed.rows if row.org_id == org_id])
            if claimed.more or claimed.cursor:
                self._nudged.set()
        return started

    def _leaves(self, org_id: str) -> None:
        del self._quarantined[org_id]
        # The common deliveries skipped its rows until now: one may have come meanwhile.
        self._released()

    def _start(self, org_id: str, rows: Sequence[OutboxRow]) -> None:
        task = asyncio.create_task(self._deliver(org_id, rows))
        self._busy[org_id] = task
        task.add_done_callback(lambda _: self._delivery_ended(org_id))

    async def _deliver(self, org_id: str, rows: Sequence[OutboxRow]) -> None:
        try:
            settled = await self._deliver_and_settle(rows, alone=True)
        except TocsinError as error:
            _log.error("relay_settle_failed", org_id=org_id, error=error.message)
            return
        quarantined = self._quarantined.get(org_id)
        if quarantined is None or rows[0].refusals > 0:
            return
        if settled.clean:
            self._leaves(org_id)
        elif quarantined.not_before <= time.monotonic():
            _postpone(quarantined)

    def _delivery_ended(self, org_id: str) -> None:
        self._busy.pop(org_id, None)
        self._nudged.set()

    async def _wait(self) -> None:
        now = time.monotonic()
        due = [each.not_before - now for org_id, each in self._quarantined.items() if org_id not in self._busy]
        sweep = self._sweep_every * random.uniform(0.9, 1.1) * (1 if self._refused or self._quarantined else _QUIET)
        seconds = min([sweep, *(max(0.001, each) for each in due)])
        try:
            async with asyncio.timeout(seconds):
                await self._nudged.wait()
        except TimeoutError:
            return

    async def _wait_for_deliveries(self, *, cancel: bool) -> None:
        tasks = list(self._busy.values())
        for task in tasks:
            if cancel:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _postpone(quarantined: _Quarantined) -> None:
    quarantined.failures += 1
    quarantined.not_before = time.monotonic() + backoff(quarantined.failures, base=_PAUSE_BASE, cap=_PAUSE_CAP)
