"""Partitions by time for closed rows: made in advance, and dropped as a whole when all rows in them are old.

Such a table is itself a part of a LIST-partitioned one: live rows are in one part, and a row that is closed moves into this one
by the statement that closes it. It is RANGE-partitioned by the closing time, and has a default partition for rows that are closed
while no partition exists for their time. Rows of the default partition, which also has those of older versions, are deleted a few
at a time; other partitions are dropped, which takes a moment however many rows they hold. Partitions are in a schema that only
the owner of the database may use, and they are made and dropped by its login alone.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.retention import delete_in_batches
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

_log = get_logger(__name__)

GUARD: Final = """
ALTER TABLE {partition} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {partition} FORCE ROW LEVEL SECURITY;
CREATE POLICY of_all_tenants ON {partition} USING ((SELECT current_setting('tocsin.org_id', true)) = '*');
"""
"""Access through its table follows the rules of that table; access by its own name is for work of all tenants."""

_MOST: Final = 15
"""Partitions for the time that rows are kept. Reads without a time read each partition, and planning considers each."""
_DAY: Final = timedelta(days=1)
_AHEAD: Final = 1
_BATCH: Final = 500
_ROUNDS: Final = 200
_WAIT: Final = "SET LOCAL lock_timeout = '50ms';"
"""Transactions that arrive while a partition waits to be dropped wait behind it: not longer than this."""
_ATTEMPTS: Final = 5
_PAUSE: Final = 0.5
_ONE_AT_A_TIME: Final = "SELECT pg_try_advisory_xact_lock(hashtext('partitions'), hashtext($1))"
_FIND: Final = r"""
SELECT c.oid::regclass::text AS name,
  (regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS start_time,
  (regexp_match(bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz AS end_time
FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid CROSS JOIN LATERAL pg_get_expr(relpartbound, c.oid) AS bound
WHERE inhparent = $1::text::regclass ORDER BY end_time
"""
# Attaching a partition, unlike creating it in place, blocks no transaction that closes a row meanwhile.
_MAKE: Final = """
CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES, PRIMARY KEY (id));
{guard}
ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}');
"""
_DELETE: Final = """
DELETE FROM {name} WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM {name} WHERE {column} < app_now() - $1::interval ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition. Without an end it is the default one; without a start it has rows older than the partitions."""

    name: str
    start: datetime | None
    end: datetime | None


def width(kept: timedelta) -> timedelta:
    """How long a partition lasts: whole days, so that at most `_MOST` cover the time that rows are kept."""
    return max(_DAY, -(-kept // (_MOST * _DAY)) * _DAY)


def missing(
    known: Sequence[Partition], newest: datetime | None, now: datetime, kept: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """The partitions to be made, with start and end. `newest`: of the rows in the default one, which no other partition may
    cover."""
    lasts = width(kept)
    ends = [each.end for each in known if each.end is not None]
    if newest is not None:
        ends.append(_day_of(newest) + _DAY)
    start = max([*ends, _day_of(now)])
    while start < now + _AHEAD * lasts:
        yield start, start + lasts
        start += lasts


def old(known: Sequence[Partition], now: datetime, kept: timedelta) -> list[Partition]:
    """Those whose rows are all older than they are kept."""
    return [each for each in known if each.end is not None and each.end <= now - kept]


def _day_of(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


class Partitions:
    """The partitions of one table, `parent`, by its column `column`."""

    def __init__(self, database: Database, parent: str, *, column: str, kept: timedelta) -> None:
        self._database = database
        self._parent = parent
        self._column = column
        self._kept = kept

    async def sweep(self) -> int:
        """Makes, deletes and drops what is due; returns how many rows were deleted, without those of dropped partitions.

        Several replicas may run it: one at a time works. Raises DATABASE_UNAVAILABLE.
        """
        await self._make()
        async with self._database.system() as tx:
            known, now = await self._find(tx), await tx.now()
        expired = old(known, now, self._kept)
        for each in expired:
            await self._alone(partial(self._drop, each), each.name)
        return sum([await self._delete(each) for each in known if each.start is None and each not in expired])

    async def _find(self, tx: Tx) -> list[Partition]:
        return [Partition(*row) for row in await tx.fetch(_FIND, self._parent)]

    async def _missing(self, tx: Tx) -> list[tuple[datetime, datetime]]:
        known = await self._find(tx)
        newest = [
            await tx.fetchval(f"SELECT max({self._column}) FROM {each.name}") for each in known if each.end is None
        ]
        return list(missing(known, next(iter(newest), None), await tx.now(), self._kept))

    async def _make(self) -> None:
        async with self._database.system() as tx:
            wanted = await self._missing(tx)
        for start, end in wanted:
            if not await self._alone(partial(self._attach, start, end), f"{self._parent}_{start:%Y%m%d}"):
                return

    async def _attach(self, start: datetime, end: datetime, tx: Tx) -> None:
        # Another replica may have made it meanwhile.
        if (start, end) not in await self._missing(tx):
            return
        name = f"{self._parent}_{start:%Y%m%d}"
        guard = GUARD.format(partition=name)
        await tx.execute(_WAIT + _MAKE.format(name=name, parent=self._parent, guard=guard, start=start, end=end))
        _log.info("partition_made", partition=name)

    async def _drop(self, partition: Partition, tx: Tx) -> None:
        if partition in await self._find(tx):
            await tx.execute(f"{_WAIT}DROP TABLE {partition.name}")
            _log.info("partition_dropped", partition=partition.name)

    async def _alone(self, work: Callable[[Tx], Awaitable[None]], partition: str) -> bool:
        """`work` in a transaction, unless another replica is running it. False: the next round tries again."""
        for _ in range(_ATTEMPTS):
            try:
                async with self._database.system() as tx:
                    if not await tx.fetchval(_ONE_AT_A_TIME, self._parent):
                        return False
                    await work(tx)
                return True
            except TocsinError as error:
                if error.reason != ErrorReason.ERROR_REASON_CONFLICT:
                    raise
            await asyncio.sleep(random.uniform(0, _PAUSE))
        _log.warning("partition_is_held", partition=partition)
        return False

    async def _delete(self, partition: Partition) -> int:
        statement = _DELETE.format(name=partition.name, column=self._column)

        async def delete(tx: Tx, limit: int) -> int:
            return int((await tx.execute(statement, self._kept, limit)).removeprefix("DELETE "))

        return await delete_in_batches(self._database, delete)
