"""Operations of an operator on outbox rows: inspect, redrive, discard."""

from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg

from tocsin_kit.db.outbox_rows import Behind, StoredRow
from tocsin_kit.db.pool import Tx

_MOST_LISTED: Final = 501
_MOST_BEHIND: Final = 1000

_HEAD: Final = "id, org_id, ordering_key, kind"
_REST: Final = """octet_length(payload) AS payload_bytes, create_time, due_time, attempts, coalesce(last_error, '') AS reason,
  dead_time, blocked, substituted, substituted_by"""
_MINE: Final = "($2 = '*' OR org_id = $2)"
_LIST_DEAD: Final = f"""
SELECT {_HEAD}, ''::bytea AS payload, {_REST} FROM outbox
WHERE dead_time IS NOT NULL AND {_MINE} AND id > $3 AND kind = ANY($1::text[]) ORDER BY id LIMIT $4
"""
_LIST_WAITING: Final = f"""
SELECT {_HEAD}, ''::bytea AS payload, {_REST} FROM outbox
WHERE dead_time IS NULL AND {_MINE} AND id > $3 AND kind = ANY($1::text[]) {{blocked}} ORDER BY id LIMIT $4
"""
_LIST_ALL_WAITING: Final = _LIST_WAITING.format(blocked="")
_LIST_BLOCKED: Final = _LIST_WAITING.format(blocked="AND blocked")
_FIND: Final = f"""
SELECT {_HEAD}, ''::bytea AS payload, {_REST} FROM outbox WHERE id = ANY($3::bigint[]) AND {_MINE} AND kind = ANY($1::text[])
"""
_GET: Final = f"SELECT {_HEAD}, payload, {_REST} FROM outbox WHERE id = $3 AND {_MINE} AND kind = ANY($1::text[])"
_BEHIND: Final = f"""
SELECT count(*)::int, min(create_time) FROM (
    SELECT create_time FROM outbox
    WHERE ordering_key = $1 AND ordering_key <> '' AND {_MINE} AND dead_time IS NULL AND id > $3 AND kind = ANY($4::text[])
    ORDER BY id LIMIT {_MOST_BEHIND}) AS behind
"""
# The count of attempts stays, so that a row that was sent before is not taken for a new one. Later messages of the same key,
# which the receiver postponed because it lacked this one, do not wait for their own pause.
_REDRIVE: Final = f"""
WITH redriven AS (
    UPDATE outbox SET dead_time = NULL, due_time = app_now(), refusals = 0, retries = 0, blocked = false
    WHERE id = ANY($1::bigint[]) AND dead_time IS NOT NULL AND {_MINE} AND kind = ANY($3::text[])
    RETURNING id, org_id, ordering_key
), hurried AS (
    UPDATE outbox SET due_time = app_now(), retries = 0
    FROM redriven
    WHERE outbox.ordering_key = redriven.ordering_key AND outbox.ordering_key <> '' AND outbox.dead_time IS NULL
      AND outbox.org_id = redriven.org_id AND outbox.id > redriven.id AND outbox.blocked
)
SELECT id FROM redriven
"""
_DISCARD: Final = f"""
DELETE FROM outbox WHERE id = ANY($1::bigint[]) AND dead_time IS NOT NULL AND {_MINE} AND kind = ANY($3::text[])
RETURNING {_HEAD}, ''::bytea AS payload, {_REST}
"""


async def list_dead(
    tx: Tx, kinds: Iterable[str], *, after_id: int = 0, limit: int = 50, org_id: str = ""
) -> list[StoredRow]:
    """Dead messages without their payloads, oldest first, from after `after_id`, at most 501.

    Of the transaction's tenant; a system transaction sees all, or those of `org_id`.
    """
    rows = await tx.fetch(_LIST_DEAD, list(kinds), org_id or tx.org_id, after_id, min(limit, _MOST_LISTED))
    return [_row(row) for row in rows]


async def list_waiting(
    tx: Tx, kinds: Iterable[str], *, after_id: int = 0, limit: int = 50, org_id: str = "", blocked: bool = False
) -> list[StoredRow]:
    """Messages to be delivered, without their payloads, oldest first, from after `after_id`, at most 501; with `blocked` only
    blocked ones.

    Of the transaction's tenant; a system transaction sees all, or those of `org_id`.
    """
    statement = _LIST_BLOCKED if blocked else _LIST_ALL_WAITING
    rows = await tx.fetch(statement, list(kinds), org_id or tx.org_id, after_id, min(limit, _MOST_LISTED))
    return [_row(row) for row in rows]


async def find_many(tx: Tx, kinds: Iterable[str], ids: Iterable[int]) -> dict[int, StoredRow]:
    """Those of the messages that exist, by their ids, without their payloads."""
    return {row["id"]: _row(row) for row in await tx.fetch(_FIND, list(kinds), tx.org_id, list(ids))}


async def find(tx: Tx, kinds: Iterable[str], row_id: int) -> StoredRow | None:
    """One message, dead or to be delivered."""
    row = await tx.fetchrow(_GET, list(kinds), tx.org_id, row_id)
    return None if row is None else _row(row)


async def waiting_behind(tx: Tx, kinds: Iterable[str], row: StoredRow) -> Behind:
    """The messages that wait for it, counted up to 1,000."""
    found = await tx.fetchrow(_BEHIND, row.ordering_key, row.org_id, row.id, list(kinds))
    return Behind(0, None) if found is None else Behind(*found)


async def redrive(tx: Tx, kinds: Iterable[str], ids: Sequence[int]) -> list[int]:
    """Make dead messages due again; returns the ids of those that were dead."""
    return [row["id"] for row in await tx.fetch(_REDRIVE, list(ids), tx.org_id, list(kinds))]


async def discard(tx: Tx, kinds: Iterable[str], ids: Sequence[int]) -> list[StoredRow]:
    """Delete dead messages; returns those that were dead."""
    return [_row(row) for row in await tx.fetch(_DISCARD, list(ids), tx.org_id, list(kinds))]


def _row(row: asyncpg.Record) -> StoredRow:
    return StoredRow(*row)
