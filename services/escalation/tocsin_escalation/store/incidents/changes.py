"""The timeline as a stream: an order of entries in which no later commit can put an entry before those that were read.

An entry's id is drawn before its transaction commits, so a later commit may bring a smaller id. Each entry therefore carries the
number of its transaction, and a reader stops before the oldest transaction that has not ended. All older ones have ended, so no
entry can appear before a place that was passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_escalation.store.incidents.timeline import Entry

LAST_ID: Final = (1 << 63) - 1


class Position(NamedTuple):
    """The place after an entry of a transaction; positions compare in the order of the stream."""

    transaction: int
    id: int


@dataclass(frozen=True, slots=True)
class Horizon:
    """What a transaction knows of others: those with numbers below `settled` have all ended."""

    settled: int
    next: int
    """No transaction has this number or a higher one yet."""
    epoch: str
    """Names this life of the database. Numbers from before a restore, or from another server, mean nothing in it."""
    now: datetime

    @property
    def end(self) -> Position:
        """The place after all settled entries."""
        return Position(self.settled - 1, LAST_ID)


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """An entry of the timeline with its place in the stream."""

    transaction: int
    incident_id: UUID
    entry: Entry

    @property
    def position(self) -> Position:
        """The place after it."""
        return Position(self.transaction, self.entry.id)


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in their order, and where to go on."""

    changes: list[ChangeRow]
    end: Position
    more: bool
    """Whether further entries are settled already."""
    held_up: bool
    """Whether committed entries wait for an older transaction to end."""


_COLUMNS: Final = columns(Entry)
# After a restore, entries carry numbers of another server, which may be higher than any here: they are not changes.
NEXT: Final = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
# What managed servers and hardened ones do not allow every role to call.
_MAY_ASK: Final = """
SELECT bool_and(has_function_privilege(to_regprocedure(name)::oid, 'EXECUTE') IS TRUE)
FROM unnest(ARRAY['pg_control_system()', 'pg_control_checkpoint()', 'pg_current_wal_insert_lsn()', 'pg_walfile_name(pg_lsn)'])
  AS name
"""
# Of a standby that took over, the control file names the timeline of before until a checkpoint ends, minutes later.
_TIMELINE: Final = """CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
  ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer END"""
_EPOCH: Final = f"(SELECT system_identifier FROM pg_control_system()) || '.' || {_TIMELINE}"
# Where those are refused: each start of a server counts as another life. Streams then end with a restart of PostgreSQL, too.
_EPOCH_BY_START: Final = """(SELECT oid FROM pg_database WHERE datname = current_database()) || '.'
  || extract(epoch FROM pg_postmaster_start_time())"""


async def horizon(tx: Tx) -> Horizon:
    """The place after which changes may still appear."""
    epoch = _EPOCH if await tx.fetchval(_MAY_ASK) else _EPOCH_BY_START
    record = await tx.fetchrow(
        f"SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, {NEXT}, {epoch}, app_now()"
    )
    assert record is not None, "a SELECT without FROM has one row"
    return Horizon(*record)


async def after(tx: Tx, position: Position, until: Horizon, limit: int) -> ChangePage:
    """At most `limit` changes of the tenant behind `position` that are settled by `until`, which this transaction read."""
    records = await tx.fetch(
        f"""SELECT transaction, incident_id, {_COLUMNS} FROM timeline
            WHERE org_id = $1 AND (transaction, id) > ($2, $3) AND transaction < $4 ORDER BY transaction, id LIMIT $5""",
        tx.org_id,
        *position,
        until.next,
        limit + 1,
    )
    found = []
    for transaction, incident_id, *values in records:
        entry = Entry(*values)
        entry = replace(entry, paged_users=tuple(entry.paged_users), pages=tuple(entry.pages))
        found.append(ChangeRow(transaction, incident_id, entry))
    settled = [each for each in found if each.transaction < until.settled]
    more = len(settled) > limit
    kept = settled[:limit]
    end = kept[-1].position if more else max(position, until.end)
    return ChangePage(kept, end, more, held_up=len(settled) < len(found))


async def newer(tx: Tx, positions: Mapping[str, Position]) -> set[str]:
    """Those of these tenants that have changes after their position: one index read for each."""
    records = await tx.fetch(
        f"""SELECT w.org_id FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS w(org_id, transaction, id)
            WHERE EXISTS (
              SELECT FROM timeline t WHERE t.org_id = w.org_id AND (t.transaction, t.id) > (w.transaction, w.id)
                AND t.transaction < {NEXT})""",
        list(positions),
        [position.transaction for position in positions.values()],
        [position.id for position in positions.values()],
    )
    return {record["org_id"] for record in records}
