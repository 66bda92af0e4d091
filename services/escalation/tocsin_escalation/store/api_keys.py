"""API keys in PostgreSQL, as hashes."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """A key as kept. `role` is empty or a name of `tocsin_kit.roles.ROLES`."""

    id: UUID
    service_account: str
    prefix: str
    display_name: str
    role: str
    scopes: tuple[str, ...]
    source_ranges: tuple[str, ...]
    author: str
    create_time: datetime | None = None
    expire_time: datetime | None = None
    last_use_time: datetime | None = None
    revoke_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class WorkingKey:
    """A key that works, and whose it is. `remaining`: None until it is revoked."""

    hash: bytes
    org_id: str
    row: ApiKeyRow
    remaining: timedelta | None


COLUMNS: Final = columns(ApiKeyRow)
_NAMES: Final = tuple(each.name for each in fields(ApiKeyRow))
# In one order, so that two batches that name the same keys do not lock each other out.
_NOTE_USES: Final = """
WITH given AS (
  SELECT org_id, id, max(app_now() - ago) AS time
  FROM unnest($1::text[], $2::uuid[], $3::interval[]) AS g(org_id, id, ago) GROUP BY org_id, id
), locked AS (
  SELECT k.org_id, k.id, g.time FROM api_keys k JOIN given g ON g.org_id = k.org_id AND g.id = k.id
  WHERE k.last_use_time IS NULL OR k.last_use_time < g.time
  ORDER BY k.org_id, k.id FOR UPDATE OF k
)
UPDATE api_keys k SET last_use_time = l.time FROM locked l WHERE k.org_id = l.org_id AND k.id = l.id
"""
_DELETE_OVER: Final = """
DELETE FROM api_keys WHERE (org_id, id) IN (
  SELECT org_id, id FROM api_keys
  WHERE (expire_time IS NOT NULL OR revoke_time IS NOT NULL)
    AND least(expire_time, revoke_time) < app_now() - make_interval(days => $1)
  LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id
"""


def _row(record: Record) -> ApiKeyRow:
    fields = {name: record[name] for name in _NAMES}
    lists = {name: tuple(fields[name]) for name in ("scopes", "source_ranges")}
    return ApiKeyRow(**{**fields, **lists})


async def insert(tx: Tx, row: ApiKeyRow, digest: bytes, lifetime: timedelta | None) -> ApiKeyRow:
    """A new key, which works for `lifetime` (None: until it is revoked)."""
    record = await tx.fetchrow(
        f"""INSERT INTO api_keys (org_id, id, service_account, key_hash, prefix, display_name, role, scopes, source_ranges,
              author, expire_time)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, app_now() + $11::interval) RETURNING {COLUMNS}""",
        tx.org_id,
        row.id,
        row.service_account,
        digest,
        row.prefix,
        row.display_name,
        row.role,
        list(row.scopes),
        list(row.source_ranges),
        row.author,
        lifetime,
    )
    assert record is not None, "an insert returns its row"
    return _row(record)


async def page(tx: Tx, account: str, after: tuple[datetime, UUID] | None, limit: int) -> list[ApiKeyRow]:
    """This tenant's (of one account, if it is not empty), oldest first, behind `after`."""
    records = await tx.fetch(
        f"""SELECT {COLUMNS} FROM api_keys
            WHERE org_id = $1 AND ($2 = '' OR service_account = $2) AND ($3::timestamptz IS NULL OR (create_time, id) > ($3, $4))
            ORDER BY create_time, id LIMIT $5""",
        tx.org_id,
        account,
        *(after or (None, None)),
        limit,
    )
    return [_row(record) for record in records]


async def revoke(tx: Tx, id_: UUID) -> ApiKeyRow | None:
    """The key, which is over now if it was not; None when there is none."""
    record = await tx.fetchrow(
        f"""UPDATE api_keys SET revoke_time = coalesce(revoke_time, app_now()) WHERE org_id = $1 AND id = $2
            RETURNING {COLUMNS}""",
        tx.org_id,
        id_,
    )
    return _row(record) if record else None


async def find(tx: Tx, hashes: Sequence[bytes]) -> list[WorkingKey]:
    """Those that work, among all tenants' keys: whose a key is only the key tells."""
    records = await tx.fetch(
        f"""SELECT key_hash, org_id, expire_time - app_now() AS remaining, {COLUMNS} FROM api_keys
            WHERE key_hash = ANY($1) AND revoke_time IS NULL AND (expire_time IS NULL OR expire_time > app_now())""",
        list(hashes),
    )
    return [WorkingKey(each["key_hash"], each["org_id"], _row(each), each["remaining"]) for each in records]


async def note_uses(tx: Tx, orgs: Sequence[str], ids: Sequence[UUID], ago: Sequence[timedelta]) -> None:
    """How long ago keys were used, in one statement; an earlier time than the one noted changes nothing."""
    await tx.execute(_NOTE_USES, list(orgs), list(ids), list(ago))


async def delete_over(tx: Tx, older_than_days: int, limit: int) -> int:
    """Forget keys of every tenant that were revoked or expired long ago, at most `limit`; how many that were."""
    return len(await tx.fetch(_DELETE_OVER, older_than_days, limit))
