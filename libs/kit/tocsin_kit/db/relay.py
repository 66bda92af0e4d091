"""Hands outbox rows over, from any number of replicas at once.

A round claims due rows with a lease (SKIP LOCKED), delivers them with no transaction open, and settles them. A row is
claimed only when no older row of its ordering key is left, in whatever state but dead, so order holds across batches,
retries and replicas. A replica that dies gives its rows back by its lease running out; settling checks the attempt
number, so one that comes back late settles nothing that has become somebody else's.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import grpc

from tocsin_kit.db.outbox_rows import Dead, Done, OutboxRow, Outcome, Retry
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import backoff, wait_or_stop
from tocsin_kit.metrics import Metrics

Deliver = Callable[[Sequence[OutboxRow]], Awaitable[Sequence[Outcome]]]

_log = get_logger(__name__)

RETRY_BASE: Final = 0.1
RETRY_CAP: Final = 30.0
_DELIVER_SHARE: Final = 0.8
"""Of the lease: a delivery is cut off while the lease still holds, so that nobody delivers the row meanwhile."""
_SETTLE_ATTEMPTS: Final = 4
_MEASURE_EVERY: Final = 5.0
_COUNTED: Final = 100_000
_MAX_ERROR: Final = 500

_CLAIM = """
WITH due AS (
    SELECT id FROM outbox AS row
    WHERE dead_time IS NULL AND due_time <= app_now() AND (lease_until IS NULL OR lease_until <= app_now())
      AND kind = ANY($1::text[])
      AND (ordering_key = '' OR id = (
          SELECT oldest.id FROM outbox AS oldest
          WHERE oldest.ordering_key = row.ordering_key AND oldest.dead_time IS NULL AND oldest.ordering_key <> ''
            AND oldest.org_id = row.org_id AND oldest.kind = ANY($1::text[])
          ORDER BY oldest.id LIMIT 1))
    ORDER BY due_time, id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE outbox SET lease_until = app_now() + make_interval(secs => $3), attempts = outbox.attempts + 1
FROM due WHERE outbox.id = due.id
RETURNING outbox.id, outbox.org_id, ordering_key, kind, payload, create_time, attempts
"""
# The answer says whether a row was waiting behind one of these. Here and above, a scalar sub-select instead of a join keeps
# the planner on the index whatever it believes about a table that is empty one minute and full the next.
_DONE = """
WITH gone AS (
    DELETE FROM outbox USING unnest($1::bigint[], $2::int[]) AS mine (id, attempts)
    WHERE outbox.id = mine.id AND outbox.attempts = mine.attempts AND lease_until IS NOT NULL
    RETURNING outbox.id, outbox.org_id, outbox.ordering_key
)
SELECT EXISTS (
    SELECT 1 FROM gone
    WHERE ordering_key <> '' AND (
        SELECT next.id FROM outbox AS next
        WHERE next.ordering_key = gone.ordering_key AND next.ordering_key <> '' AND next.dead_time IS NULL
          AND next.org_id = gone.org_id AND next.id > gone.id
        ORDER BY next.id LIMIT 1) IS NOT NULL
)
"""
_RETRY = """
UPDATE outbox SET lease_until = NULL, last_error = mine.error, due_time = app_now() + make_interval(secs => mine.pause)
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::float8[]) AS mine (id, attempts, error, pause)
WHERE outbox.id = mine.id AND outbox.attempts = mine.attempts AND lease_until IS NOT NULL
"""
_DEAD = """
UPDATE outbox SET lease_until = NULL, last_error = mine.error, dead_time = app_now()
FROM unnest($1::bigint[], $2::int[], $3::text[]) AS mine (id, attempts, error)
WHERE outbox.id = mine.id AND outbox.attempts = mine.attempts AND lease_until IS NOT NULL
"""
_GIVE_BACK = """
UPDATE outbox SET lease_until = NULL, attempts = outbox.attempts - 1
FROM unnest($1::bigint[], $2::int[]) AS mine (id, attempts)
WHERE outbox.id = mine.id AND outbox.attempts = mine.attempts AND lease_until IS NOT NULL
"""
_MEASURE = f"""
SELECT kind, count(*) AS rows, coalesce(extract(epoch FROM app_now() - min(create_time)), 0)::float8 AS oldest
FROM (SELECT kind, create_time FROM outbox
      WHERE dead_time IS NULL AND kind = ANY($1::text[]) LIMIT {_COUNTED}) AS waiting
GROUP BY kind
"""
_MEASURE_DEAD = f"""
SELECT kind, count(*) AS rows
FROM (SELECT kind FROM outbox WHERE dead_time IS NOT NULL AND kind = ANY($1::text[]) LIMIT {_COUNTED}) AS dead
GROUP BY kind
"""


class Relay:
    """Delivers rows of `kinds`.

    `deliver` gets up to `batch` rows, no two of one ordering key, and answers one outcome per row. It may run
    `parallel` times at once and must end within 0.8 of the lease, after which it is cancelled and its rows retried; the
    receiver must therefore take a row twice and act once. An exception from it retries the whole batch.
    """

    def __init__(
        self,
        database: Database,
        deliver: Deliver,
        *,
        kinds: Iterable[str],
        batch: int = 200,
        lease: float = 10.0,
        sweep_every: float = 1.0,
        parallel: int = 4,
        metrics: Metrics | None = None,
    ) -> None:
        self._database = database
        self._deliver = deliver
        self._kinds = list(kinds)
        self._batch = batch
        self._lease = lease
        self._sweep_every = sweep_every
        self._parallel = parallel
        self._metrics = metrics
        self._nudged = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()

    def nudge(self) -> None:
        """A row may be due: look now instead of at the next sweep. Cheap; any number of nudges make one round."""
        self._nudged.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until stopped, then what is due by then. When cancelled, what is in flight is given back."""
        stopper = asyncio.create_task(stop.wait())
        stopper.add_done_callback(lambda _: self._nudged.set())
        measuring = asyncio.create_task(self._measure(stop))
        failures = 0
        try:
            while not stop.is_set():
                self._nudged.clear()
                try:
                    claimed = await self._round()
                except TocsinError as error:
                    if error.code is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    failures += 1
                    if failures == 1:
                        _log.warning("relay_waits", kinds=self._kinds, error=error.message)
                    await wait_or_stop(stop, backoff(failures, base=RETRY_BASE, cap=self._sweep_every))
                    continue
                failures = 0
                if claimed < self._batch:
                    await self._wait()
            # Whatever the last calls committed: nobody else would look for it before a sweep.
            try:
                await self._round()
            except TocsinError as error:
                _log.info("relay_left_rows", kinds=self._kinds, error=error.message)
        except asyncio.CancelledError:
            self._cut_short()
            raise
        finally:
            stopper.cancel()
            measuring.cancel()
            await self._land()
            await asyncio.gather(stopper, measuring, return_exceptions=True)

    async def run_once(self) -> int:
        """Claim one batch, deliver and settle it; how many rows there were."""
        rows = await self._claim()
        if rows:
            await self._fly(rows)
        return len(rows)

    async def _round(self) -> int:
        while len(self._flying) >= self._parallel:
            await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
        rows = await self._claim()
        if rows:
            task = asyncio.create_task(self._fly(rows))
            self._flying.add(task)
            task.add_done_callback(self._landed)
        return len(rows)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._sweep_every * random.uniform(0.9, 1.1)):
                await self._nudged.wait()
        except TimeoutError:
            return

    async def _land(self) -> None:
        """Wait for the deliveries in flight."""
        while self._flying:
            try:
                await asyncio.wait(self._flying)
            except asyncio.CancelledError:
                self._cut_short()
                await asyncio.gather(*self._flying, return_exceptions=True)
                raise

    def _cut_short(self) -> None:
        """Cancel the deliveries in flight, whereupon each gives its rows back."""
        for task in self._flying:
            task.cancel()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("relay_settle_failed", kinds=self._kinds, exc_info=task.exception())

    async def _claim(self) -> list[OutboxRow]:
        async with self._database.claim() as tx:
            rows = await tx.fetch(_CLAIM, self._kinds, self._batch, self._lease)
        # RETURNING promises no order.
        return sorted((OutboxRow(*row) for row in rows), key=lambda row: row.id)

    async def _fly(self, rows: Sequence[OutboxRow]) -> None:
        try:
            async with asyncio.timeout(self._lease * _DELIVER_SHARE):
                outcomes = await self._deliver(rows)
            if len(outcomes) != len(rows):
                raise RuntimeError(f"{len(rows)} rows were given, {len(outcomes)} outcomes came back")
        except asyncio.CancelledError:
            await self._database.run(None, lambda tx: tx.execute(_GIVE_BACK, *_mine(rows)))
            raise
        except TimeoutError:
            outcomes = [Retry("the delivery took too long")] * len(rows)
        except TocsinError as error:
            outcomes = [Retry(f"{error.reason_name}: {error.message}", error.retry_after)] * len(rows)
        except Exception as error:
            _log.exception("relay_delivery_failed", kinds=self._kinds)
            outcomes = [Retry(f"{type(error).__name__}: {error}")] * len(rows)
        await self._settle(rows, outcomes)

    async def _settle(self, rows: Sequence[OutboxRow], outcomes: Sequence[Outcome]) -> None:
        done: list[OutboxRow] = []
        retry: list[tuple[OutboxRow, Retry]] = []
        dead: list[tuple[OutboxRow, Dead]] = []
        for row, outcome in zip(rows, outcomes, strict=True):
            match outcome:
                case Done():
                    done.append(row)
                case Retry():
                    retry.append((row, outcome))
                case Dead():
                    dead.append((row, outcome))

        pauses = [_pause(*each) for each in retry]

        async def write(tx: Tx) -> bool:
            more = False
            if done:
                more = await tx.fetchval(_DONE, *_mine(done))
            if retry:
                errors = [outcome.error[:_MAX_ERROR] for _, outcome in retry]
                await tx.execute(_RETRY, *_mine([row for row, _ in retry]), errors, pauses)
            if dead:
                reasons = [outcome.reason[:_MAX_ERROR] for _, outcome in dead]
                await tx.execute(_DEAD, *_mine([row for row, _ in dead]), reasons)
            return more or bool(dead)

        for attempt in range(1, _SETTLE_ATTEMPTS + 1):
            try:
                more = await self._database.run(None, write)
                break
            except TocsinError:
                # Delivered but not settled: the lease runs out and the rows are delivered once more.
                if attempt == _SETTLE_ATTEMPTS:
                    raise
                await asyncio.sleep(backoff(attempt, base=RETRY_BASE, cap=self._lease / 4))
        for row, outcome in dead:
            _log.error("outbox_row_dead", id=row.id, kind=row.kind, org_id=row.org_id, reason=outcome.reason)
        self._count(rows, outcomes)
        if more:
            self._nudged.set()
        if pauses and min(pauses) < self._sweep_every:
            asyncio.get_running_loop().call_later(min(pauses), self._nudged.set)

    def _count(self, rows: Sequence[OutboxRow], outcomes: Sequence[Outcome]) -> None:
        if self._metrics is None:
            return
        counts: dict[tuple[str, str], int] = {}
        for row, outcome in zip(rows, outcomes, strict=True):
            key = (row.kind, type(outcome).__name__.lower())
            counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            self._metrics.outbox_total.labels(*key).inc(count)

    async def _measure(self, stop: asyncio.Event) -> None:
        if self._metrics is None:
            return
        while not await wait_or_stop(stop, _MEASURE_EVERY):
            try:
                async with self._database.system() as tx:
                    waiting = {row["kind"]: row for row in await tx.fetch(_MEASURE, self._kinds)}
                    dead = {row["kind"]: row["rows"] for row in await tx.fetch(_MEASURE_DEAD, self._kinds)}
            except TocsinError as error:
                _log.debug("outbox_not_measured", error=error.message)
                continue
            for kind in self._kinds:
                row = waiting.get(kind)
                self._metrics.outbox_rows.labels(kind, "waiting").set(row["rows"] if row else 0)
                self._metrics.outbox_oldest_seconds.labels(kind).set(row["oldest"] if row else 0.0)
                self._metrics.outbox_rows.labels(kind, "dead").set(dead.get(kind, 0))


def _mine(rows: Sequence[OutboxRow]) -> tuple[list[int], list[int]]:
    """Which rows, and as of which attempt: another replica's later attempt is not this one's to settle."""
    return [row.id for row in rows], [row.attempts for row in rows]


def _pause(row: OutboxRow, outcome: Retry) -> float:
    if outcome.after is not None:
        return min(outcome.after, RETRY_CAP)
    return backoff(row.attempts, base=RETRY_BASE, cap=RETRY_CAP)
