"""Delivers outbox rows, from any number of replicas at once.

A round claims due rows with a lease (SKIP LOCKED), delivers them outside of any transaction, and settles them. A row is claimed
only when no older row of its ordering key is left, except dead ones, so the order holds across batches, retries and replicas. The
rows of a replica that dies are free when their lease ends. Settling checks the attempt number, so a replica that is late settles
no row that another one has taken over.

Three kinds of failures are treated differently:

- The receiver is away. Then the relay waits and no single row does: a small delivery every `_PROBE_EVERY` seconds tests whether
  it is back, and the first answer releases all rows.
- A row is refused. The delivery is halved until the row is alone. From then on the row is sent alone, with its own pauses, and
  becomes dead after a few refusals (`tocsin_kit.db.relay_verdicts`).
- A tenant's rows are refused or slow. They move from the common deliveries to deliveries of that tenant alone
  (`tocsin_kit.db.relay_quarantine`), which have their own limit. Rows of other tenants do not wait for them.

A row that its own process has just committed may be delivered without a claim (`tocsin_kit.db.relay_from_memory`).

A tenant that sends many rows a second (`tocsin_kit.noisy_tenants`) is delivered apart from the others as well, and in larger sets:
the other tenants would wait for the receiver's work on its rows.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from tocsin_kit.db.outbox_claims import Claimed, Claims
from tocsin_kit.db.outbox_rows import OutboxRow, Retry
from tocsin_kit.db.pool import Database
from tocsin_kit.db.relay_delivery import Deliver, Delivery, Sets
from tocsin_kit.db.relay_from_memory import MemoryDeliveries
from tocsin_kit.db.relay_quarantine import Quarantine
from tocsin_kit.db.relay_receiver import Receiver
from tocsin_kit.db.relay_settling import Settled, Settling, Substitute
from tocsin_kit.db.relay_verdicts import Verdict
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop, while_away
from tocsin_kit.metrics import Metrics
from tocsin_kit.noisy_tenants import NoisyTenants

__all__ = ["Deliver", "GiveWay", "Relay", "Sets", "Substitute"]

_log = get_logger(__name__)

_DELIVER_SHARE: Final = 0.8
"""Of the lease: a delivery is cut off while the lease still holds, so that no other replica delivers the row meanwhile."""
_CALLS: Final = 64
"""The most calls for one claimed batch that has to be taken apart."""
_CROWD: Final = 20
"""Rows of one tenant in a claim that are sent with those of others. The rows of a storm are sent separately: they take the
receiver long."""
_PAUSE: Final = 0.15
"""Seconds for which rows of a noisy tenant are collected after a set took all it had: a set costs the receiver as much as some
rows."""
_SOME: Final = 60
"""Rows of a noisy tenant. After a larger set more rows come at once, so that the next one is large as well."""
_LONGEST_PAUSE: Final = 0.1
"""Seconds. For a patient relay, between two sets of one noisy tenant: thousands of rows are delivered within seconds, even if each
set takes long."""
_SOON: Final = 0.1
"""Seconds. A claim and a set cost as much for one row as for some, so rows that no one waits for are collected for this long."""
_SETS: Final = Sets()
_TELL_EVERY: Final = 10.0
_CONTENDED_PAUSE: Final = 0.02
_MOST_PASSED: Final = 3
"""Sweeps in a row that are skipped for other work."""


@dataclass(frozen=True, slots=True)
class GiveWay:
    """How a relay gives way to other work."""

    busy: Callable[[], bool] = lambda: False
    """Whether this process has more urgent work: rows without a nudge then wait for another sweep, three times at most, and are
    sent in larger sets."""
    patient: bool = False
    """No caller waits for these rows. After each set of a noisy tenant, the next one is sent only when the receiver has had the
    same time for other work."""
    noisy: NoisyTenants = field(default_factory=NoisyTenants)
    """The tenants that send many rows a second."""


class Relay:
    """Delivers rows of `kinds`.

    `deliver` gets a set of rows, no two of one ordering key, and returns one answer per row, or raises. Its error is judged.
    "Away" (UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, a lost connection; also UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED)
    leaves every row unchanged. After any other error the relay delivers the rows in halves until the refused one is alone.
    `deliver` may run several times at once and must end within 0.8 of the lease, after which it is cancelled; so the receiver may
    get a row twice, and must act once.

    `deliver` must call through `channel`: while the receiver is away, the relay tests it as soon as the channel is connected
    again.

    `substitute(row, reason)` is called when a row is about to become dead, with the reason for the dead letter. It returns
    another payload for the same message, or None. With a payload the original is kept as a dead row, and the row itself is sent
    in its place: same id, same place in its ordering key, due at once, in one transaction. This happens once per row
    (`OutboxRow.substituted`): when the substitute is refused as well, the row dies. The function must not wait and must not
    raise; an exception is logged and counts as None.
    """

    def __init__(
        self,
        database: Database,
        deliver: Deliver,
        *,
        kinds: Iterable[str],
        sets: Sets = _SETS,
        sweep_every: float = 1.0,
        substitute: Substitute | None = None,
        channel: grpc.aio.Channel | None = None,
        metrics: Metrics | None = None,
        give_way: GiveWay | None = None,
    ) -> None:
        self._give_way = give_way or GiveWay()
        self._noisy = self._give_way.noisy
        self.kinds: Final = list(kinds)
        self._deliver = deliver
        self._sets = sets
        self._sweep_every = sweep_every
        self._claims = Claims(database, self.kinds, lease=sets.lease, max_bytes=sets.max_bytes)
        self._settling = Settling(database, lease=sets.lease, substitute=substitute, metrics=metrics)
        self._receiver = Receiver(self.kinds, channel)
        self._nudged = asyncio.Event()
        self._quarantine = Quarantine(
            self._claims,
            self._deliver_and_settle,
            sets=sets,
            sweep_every=sweep_every,
            away=lambda: self._receiver.away,
            shares=lambda org_id: self._in_flight_of[org_id] > 0,
            released=self._nudged.set,
        )
        self._from_memory = MemoryDeliveries(
            database,
            deliver,
            self._noisy,
            sets=sets,
            few=_CROWD,
            nudge=self.nudge,
            accepted=self._accepted,
        )
        self._stopping = False
        self._metrics = metrics
        self._cursor = ""
        self._told = float("-inf")
        self._in_flight: set[asyncio.Task[Settled]] = set()
        self._in_flight_of: Counter[str] = Counter()
        self._paused: set[str] = set()
        self._passed_over = False
        """Rows of a tenant that is paused may be due."""
        self._nudge_is_coming = False

    def nudge(self, org_id: str = "") -> None:
        """A row may be due: check now, not at the next sweep. Cheap; any number of nudges make one round.

        `org_id`: the row's tenant, if it is a single one. For a paused tenant, the rows are checked when the pause is over.
        """
        self._quarantine.nudge()
        if org_id in self._paused:
            self._passed_over = True
        else:
            self._nudged.set()

    def nudge_soon(self) -> None:
        """As `nudge` for rows of any tenant, 0.1 s later and together with all that are committed until then. Cheap."""
        if not self._nudge_is_coming:
            self._nudge_is_coming = True
            asyncio.get_running_loop().call_later(_SOON, self._collected)

    def takes(self, org_id: str, count: int) -> bool:
        """Whether so many rows of the tenant, none of which waits for an earlier one of its ordering key, may be written as due
        after `SURE_WAY_SECONDS` and given to `hand_over` after the commit. Otherwise they are written as due at once."""
        if self._stopping or self._receiver.away or org_id in self._quarantine.tenants:
            return False
        return self._from_memory.takes(org_id, count)

    def hand_over(self, rows: Sequence[OutboxRow]) -> None:
        """Deliver these rows of one tenant from memory: `takes` said so, and they are committed."""
        if rows:
            self._from_memory.hand_over(rows)

    def _collected(self) -> None:
        self._nudge_is_coming = False
        self.nudge()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until stopped, then what is due by then. When cancelled, rows in flight are given back."""
        stopper = asyncio.create_task(stop.wait())
        stopper.add_done_callback(lambda _: self._wake())
        quarantined = asyncio.create_task(self._quarantine.run(stop))
        failures = 0
        try:
            while not stop.is_set():
                self._nudged.clear()
                if self._receiver.away:
                    await self._receiver.pause()
                try:
                    more = await self._round()
                except TocsinError as error:
                    if error.code is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    failures += 1
                    if failures == 1:
                        _log.warning("relay_waits", kinds=self.kinds, error=error.message)
                    await wait_or_stop(stop, while_away(failures))
                    continue
                failures = 0
                if not more and not self._receiver.away:
                    await self._wait_for_work()
            # For rows that the last calls committed: otherwise they would wait for a sweep.
            self._stopping = True
            self._paused.clear()
            await self._from_memory.drain()
            try:
                await self._round()
            except TocsinError as error:
                _log.info("relay_left_rows", kinds=self.kinds, error=error.message)
        except asyncio.CancelledError:
            self._cut_short()
            raise
        finally:
            stopper.cancel()
            quarantined.cancel()
            await self._wait_for_deliveries()
            await asyncio.gather(stopper, quarantined, return_exceptions=True)

    async def run_once(self) -> int:
        """Claim one batch, deliver and settle it; returns how many rows there were. If there were none: the rows that were set
        aside."""
        claimed = await self._claims.fair(self._sets.rows, after="", without=self._quarantine.tenants)
        if claimed.rows:
            await self._deliver_and_settle(claimed.rows)
            return len(claimed.rows)
        return await self._quarantine.run_once()

    async def _round(self) -> bool:
        """Start one delivery; returns whether another one can be started at once."""
        while len(self._in_flight) >= 2 * self._sets.parallel:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        full = {org_id for org_id, count in self._in_flight_of.items() if count >= self._sets.parallel}
        limit = min(self._sets.rows, self._receiver.probe_rows) if self._receiver.away else self._sets.rows
        paused = set() if self._receiver.away else self._paused
        self._passed_over |= bool(paused)
        claimed = await self._claims.fair(limit, after=self._cursor, without=full | paused | self._quarantine.tenants)
        self._cursor = claimed.cursor
        self._quarantine.there_are(refused=claimed.refused)
        if claimed.rows:
            self._receiver.asked()
            for rows in self._by_noise(claimed):
                self._start_delivery(rows)
        elif claimed.more:
            await asyncio.sleep(random.uniform(0, _CONTENDED_PAUSE))  # another replica claimed them at this moment
        elif not claimed.cursor and not self._in_flight and not paused:
            self._receiver.nothing_to_ask()
        return claimed.more or bool(claimed.cursor)

    def _by_noise(self, claimed: Claimed) -> list[list[OutboxRow]]:
        """Rows of tenants with few rows, and of tenants with many. A noisy tenant all of whose rows were taken is paused."""
        of = Counter(row.org_id for row in claimed.rows)
        for org_id, count in of.items():
            self._noisy.note(org_id, count)
        noisy = {org_id for org_id in of if org_id in self._noisy}
        large = {org_id for org_id, count in of.items() if count > _CROWD}
        paused = {org_id for org_id in noisy if of[org_id] <= _SOME}
        if paused and not claimed.more:
            self._pause(paused, _PAUSE)
        many = noisy | large
        parts = [[row for row in claimed.rows if (row.org_id in many) is each] for each in (False, True)]
        return [part for part in parts if part]

    def _pause(self, org_ids: set[str], seconds: float) -> None:
        def end() -> None:
            self._paused -= org_ids
            if self._passed_over:
                self._passed_over = False
                self._nudged.set()

        self._paused |= org_ids
        asyncio.get_running_loop().call_later(seconds, end)

    def _start_delivery(self, rows: Sequence[OutboxRow]) -> None:
        tenants = {row.org_id for row in rows}
        self._in_flight_of.update(tenants)
        began = time.monotonic()
        task = asyncio.create_task(self._deliver_and_settle(rows))
        self._in_flight.add(task)
        task.add_done_callback(lambda task: self._delivery_ended(task, tenants, began))

    async def _wait_for_work(self) -> None:
        for _ in range(1 + _MOST_PASSED):
            if await self._is_nudged() or not self._give_way.busy():
                return

    async def _is_nudged(self) -> bool:
        """Before the next sweep is due."""
        try:
            async with asyncio.timeout(self._sweep_every * random.uniform(0.9, 1.1)):
                await self._nudged.wait()
        except TimeoutError:
            return False
        return True

    def _accepted(self, rows: Sequence[OutboxRow], *, began: float) -> None:
        self._receiver.accepted(began=began)
        if self._metrics is not None:
            for kind, count in Counter(row.kind for row in rows).items():
                self._metrics.outbox_total.labels(kind, "done").inc(count)

    def _wake(self) -> None:
        self._nudged.set()
        self._receiver.ask_now()

    async def _wait_for_deliveries(self) -> None:
        """Wait for the deliveries under way."""
        while self._in_flight:
            try:
                await asyncio.wait(self._in_flight)
            except asyncio.CancelledError:
                self._cut_short()
                await asyncio.gather(*self._in_flight, return_exceptions=True)
                raise

    def _cut_short(self) -> None:
        """Cancel the deliveries in flight; each gives its rows back."""
        for task in self._in_flight:
            task.cancel()

    def _delivery_ended(self, task: asyncio.Task[Settled], tenants: set[str], began: float) -> None:
        self._in_flight.discard(task)
        noisy = {org_id for org_id in tenants if org_id in self._noisy} if self._give_way.patient else set()
        if noisy and not self._stopping:
            self._pause(noisy, min(time.monotonic() - began, _LONGEST_PAUSE))
        if any(self._in_flight_of[org_id] >= self._sets.parallel for org_id in tenants):
            self._nudged.set()  # rows of such a tenant were skipped
        self._in_flight_of.subtract(tenants)
        self._in_flight_of += Counter()
        if not task.cancelled() and task.exception() is not None:
            _log.error("relay_settle_failed", kinds=self.kinds, exc_info=task.exception())

    async def _deliver_and_settle(self, rows: Sequence[OutboxRow], *, alone: bool = False) -> Settled:
        """Deliver and settle. `alone`: rows of one tenant that is in quarantine."""
        seconds = self._sets.lease * _DELIVER_SHARE
        delivery = Delivery(self._deliver, rows, self._receiver, seconds=seconds, calls=_CALLS, alone=alone)
        began = time.monotonic()
        try:
            await (delivery.send_each() if rows[0].refusals else delivery.run())
        except asyncio.CancelledError:
            await self._settling.give_back(rows, "the relay was stopped")
            raise
        works = delivery.answered or self._receiver.accepted_since(began)
        if works and delivery.stopped is not None and delivery.stopped.verdict is Verdict.SLOW and len(rows) == 1:
            # It was slow with this row alone: only the row is paused.
            delivery.results[rows[0].id] = Retry(delivery.stopped.error, delivery.stopped.after)
        settled = await self._settling.settle(rows, delivery.results)
        self._conclude(delivery, settled, works=works)
        return settled

    def _conclude(self, delivery: Delivery, settled: Settled, *, works: bool) -> None:
        if delivery.defect is not None and time.monotonic() - self._told >= _TELL_EVERY:
            self._told = time.monotonic()  # not each time: many rows meet the same error
            _log.error("relay_delivery_failed", kinds=self.kinds, exc_info=delivery.defect)
        if delivery.answered and self._receiver.answered():
            self._nudged.set()
            self._quarantine.look()
        stopped = delivery.stopped
        if stopped is not None:
            if stopped.verdict is Verdict.SLOW and works:
                # It answers others meanwhile, so these rows are the cause.
                self._quarantine.slow({row.org_id for row in delivery.undecided}, rows=len(delivery.rows))
            else:
                self._receiver.is_away(stopped)
                self._nudged.set()
        self._quarantine.add(delivery.quarantined)
        self._quarantine.refused(settled.refused)
        if settled.more:
            self.nudge()
        if settled.pauses and min(settled.pauses) < self._sweep_every:
            asyncio.get_running_loop().call_later(min(settled.pauses), self.nudge)
