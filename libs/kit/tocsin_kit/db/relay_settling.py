"""Writes the results for claimed rows; rows become dead only here.

Every statement checks the attempt number: a replica that is late settles no row that another one has taken over.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from tocsin_kit.bounded import Bounded
from tocsin_kit.db.outbox_rows import Dead, Done, OutboxRow, Retry
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.relay_delivery import Refused, Result, Returned
from tocsin_kit.db.relay_verdicts import RETRY_BASE, is_final, refusal_pause, retry_pause
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import backoff, while_away
from tocsin_kit.metrics import Metrics

Substitute = Callable[[OutboxRow, str], bytes | None]

_log = get_logger(__name__)
_SETTLE_ATTEMPTS: Final = 4
_MAX_ERROR: Final = 500
_REMEMBERED: Final = 10_000
"""Rows whose first refusal is kept. A row that was refused in another replica is refused some times more."""

# The tenant is compared in a way that cannot use an index: rows are found by their ids.
_MINE: Final = """outbox.id = mine.id AND outbox.attempts = mine.attempts AND lease_until IS NOT NULL
  AND outbox.org_id IS NOT DISTINCT FROM mine.org_id"""


def delete_from(given: str, condition: str) -> str:
    """The DELETE of accepted rows; its answer says whether a row was waiting for one of them."""
    # A scalar sub-select instead of a join keeps the planner on the index.
    return f"""
WITH gone AS (
    DELETE FROM outbox USING {given}
    WHERE {condition}
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


_DONE: Final = delete_from("unnest($1::bigint[], $2::int[], $3::text[]) AS mine (id, attempts, org_id)", _MINE)
_RETRY: Final = f"""
UPDATE outbox SET lease_until = NULL, last_error = mine.error, due_time = app_now() + make_interval(secs => mine.pause),
  retries = retries + 1, blocked = mine.blocked
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::float8[], $6::boolean[])
  AS mine (id, attempts, org_id, error, pause, blocked)
WHERE {_MINE}
"""
_REFUSED: Final = f"""
UPDATE outbox SET lease_until = NULL, last_error = mine.error, due_time = app_now() + make_interval(secs => mine.pause),
  refusals = refusals + 1
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::float8[]) AS mine (id, attempts, org_id, error, pause)
WHERE {_MINE}
"""
_DEAD: Final = f"""
UPDATE outbox SET lease_until = NULL, last_error = mine.error, dead_time = app_now()
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) AS mine (id, attempts, org_id, error)
WHERE {_MINE}
"""
# The row keeps its id, and with it its place in the order of its key; the original is a dead copy with a later id.
_SUBSTITUTED: Final = f"""
WITH replaced AS (
    UPDATE outbox SET lease_until = NULL, last_error = mine.error, due_time = app_now(), payload = mine.payload,
      substituted = true, refusals = 0, retries = 0
    FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::bytea[], $6::bytea[])
      AS mine (id, attempts, org_id, error, original, payload)
    WHERE {_MINE} AND NOT substituted
    RETURNING outbox.id, outbox.org_id, ordering_key, kind, create_time, outbox.attempts, mine.error, mine.original
)
INSERT INTO outbox (org_id, ordering_key, kind, payload, create_time, attempts, last_error, dead_time, substituted_by)
SELECT org_id, ordering_key, kind, original, create_time, attempts, error, app_now(), id FROM replaced
"""
# The count of attempts stays: the receiver may have accepted the row although its answer was lost, so the row must not be taken
# for one that was never sent.
_RETURNED: Final = f"""
UPDATE outbox SET lease_until = NULL, last_error = mine.error
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) AS mine (id, attempts, org_id, error)
WHERE {_MINE}
"""


@dataclass(slots=True)
class Settled:
    """What the relay must do after the write."""

    more: bool = False
    """This made a row due."""
    pauses: list[float] = field(default_factory=list)
    """Seconds until rows that the receiver postponed are due."""
    refused: dict[str, list[float]] = field(default_factory=dict)
    """The same for rows that were refused alone, by tenant."""
    clean: bool = True
    """No row was refused, and none came back."""


@dataclass(slots=True)
class _Sorted:
    done: list[OutboxRow] = field(default_factory=list)
    retry: list[tuple[OutboxRow, str, float, bool]] = field(default_factory=list)
    refused: list[tuple[OutboxRow, str, float]] = field(default_factory=list)
    dead: list[tuple[OutboxRow, str]] = field(default_factory=list)
    substituted: list[tuple[OutboxRow, str, bytes, bytes]] = field(default_factory=list)
    returned: list[tuple[OutboxRow, str]] = field(default_factory=list)

    @property
    def only_done(self) -> bool:
        """As nearly always: then one statement says it all."""
        return not (self.retry or self.refused or self.dead or self.substituted or self.returned)


class Settling:
    """Settles rows of one relay."""

    def __init__(
        self, database: Database, *, lease: float, substitute: Substitute | None, metrics: Metrics | None
    ) -> None:
        self._database = database
        self._lease = lease
        self._substitute = substitute
        self._metrics = metrics
        self._first_refused: Bounded[int, float] = Bounded(_REMEMBERED)

    async def settle(self, rows: Sequence[OutboxRow], results: Mapping[int, Result]) -> Settled:
        """Write all results in one transaction."""
        given = self._sort(rows, results)
        more = await self._write(given)
        self._tell(given)
        settled = Settled(more=more or bool(given.dead or given.substituted))
        settled.pauses = [pause for _, _, pause, _ in given.retry]
        settled.clean = not (given.refused or given.dead or given.substituted or given.returned)
        for row, _, pause in given.refused:
            settled.refused.setdefault(row.org_id, []).append(pause)
        return settled

    async def give_back(self, rows: Sequence[OutboxRow], error: str) -> None:
        """The result of these is unknown: they are due again."""
        returned = [(row, error) for row in rows]
        await self._database.run(None, lambda tx: tx.execute(_RETURNED, *_columns(returned)))

    def _sort(self, rows: Sequence[OutboxRow], results: Mapping[int, Result]) -> _Sorted:
        given = _Sorted()
        for row in rows:
            match results[row.id]:
                case Done():
                    given.done.append(row)
                    if row.refusals:
                        self._first_refused.pop(row.id, None)
                case Retry() as retry:
                    given.retry.append((row, retry.error[:_MAX_ERROR], retry_pause(row, retry), retry.blocked))
                case Dead(reason):
                    self._end(row, reason[:_MAX_ERROR], given)
                case Refused(failure) as refused:
                    error = failure.error[:_MAX_ERROR]
                    if self._is_final(row, refused):
                        self._end(row, error, given)
                    else:
                        given.refused.append((row, error, refusal_pause(row, failure.verdict)))
                case Returned(error):
                    given.returned.append((row, error[:_MAX_ERROR]))
        return given

    def _is_final(self, row: OutboxRow, refused: Refused) -> bool:
        first = self._first_refused.get(row.id)
        if first is None:
            first = self._first_refused[row.id] = refused.time
        return is_final(
            row,
            refused.failure.verdict,
            accepts_others=refused.works_at >= first,
            has_substitute=self._substitute is not None and not row.substituted,
        )

    def _end(self, row: OutboxRow, reason: str, given: _Sorted) -> None:
        # A substitute must be refused by itself.
        self._first_refused.pop(row.id, None)
        payload = None
        if self._substitute is not None and not row.substituted:
            try:
                payload = self._substitute(row, reason)
            except Exception:
                _log.exception("outbox_substitute_failed", id=row.id, kind=row.kind, org_id=row.org_id)
        if payload is None:
            given.dead.append((row, reason))
        else:
            given.substituted.append((row, reason, row.payload, payload))

    async def _write(self, given: _Sorted) -> bool:
        async def write(tx: Tx) -> bool:
            more = False
            if given.done:
                more = await tx.fetchval(_DONE, *_mine(given.done))
            for sql, some in (
                (_RETRY, given.retry),
                (_REFUSED, given.refused),
                (_DEAD, given.dead),
                (_SUBSTITUTED, given.substituted),
                (_RETURNED, given.returned),
            ):
                if some:
                    await tx.execute(sql, *_columns(some))
            return more

        async def write_all() -> bool:
            if given.only_done:
                async with self._database.autocommit() as tx:
                    return bool(await tx.fetchval(_DONE, *_mine(given.done)))
            return await self._database.run(None, write)

        until = time.monotonic() + self._lease
        attempt = 0
        while True:
            try:
                return await write_all()
            except TocsinError as error:
                # Delivered but not settled: when the lease ends the rows are delivered once more. Until then no other relay takes
                # them, so while the database is away there is no reason to give up earlier.
                attempt += 1
                away = error.code is grpc.StatusCode.UNAVAILABLE
                if time.monotonic() >= until if away else attempt >= _SETTLE_ATTEMPTS:
                    raise
                await asyncio.sleep(
                    while_away(attempt) if away else backoff(attempt, base=RETRY_BASE, cap=self._lease / 4)
                )

    def _tell(self, given: _Sorted) -> None:
        for row, reason in given.dead:
            _log.error(
                "outbox_row_dead",
                id=row.id,
                kind=row.kind,
                org_id=row.org_id,
                ordering_key=row.ordering_key,
                reason=reason,
            )
        for row, reason, *_ in given.substituted:
            _log.error(
                "outbox_row_substituted",
                id=row.id,
                kind=row.kind,
                org_id=row.org_id,
                ordering_key=row.ordering_key,
                reason=reason,
            )
        if self._metrics is None:
            return
        counts: dict[tuple[str, str], int] = {}
        for outcome in ("done", "retry", "refused", "dead", "substituted", "returned"):
            for each in getattr(given, outcome):
                row = each if isinstance(each, OutboxRow) else each[0]
                counts[row.kind, outcome] = counts.get((row.kind, outcome), 0) + 1
        for key, count in counts.items():
            self._metrics.outbox_total.labels(*key).inc(count)


def _mine(rows: Sequence[OutboxRow]) -> tuple[list[int], list[int], list[str]]:
    """The rows with tenant and attempt: a later attempt of another replica must not be settled here."""
    return [row.id for row in rows], [row.attempts for row in rows], [row.org_id for row in rows]


def _columns(given: Sequence[tuple[OutboxRow, *tuple[object, ...]]]) -> tuple[list[object], ...]:
    ids, attempts, orgs = _mine([each[0] for each in given])
    rest = (list(column) for column in list(zip(*given, strict=True))[1:])
    return (list(ids), list(attempts), list(orgs), *rest)
