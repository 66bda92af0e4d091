"""API keys in PostgreSQL, as hashes."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Record
from sqlalchemy.dialects.postgresql import ARRAY
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Statement, param

from tocsin_escalation.store import tables
from tocsin_escalation.store.listed import Cursor, Listed


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """A stored key. `role` is empty or a name of `tocsin_kit.roles.ROLES`."""

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
    """A key that works, with its tenant and account. `remaining`: None until it is revoked."""

    hash: bytes
    org_id: str
    row: ApiKeyRow
    remaining: timedelta | None


def _row(record: Record) -> ApiKeyRow:
    values = {name: record[name] for name in _NAMES}
    lists = {name: tuple(values[name]) for name in ("scopes", "source_ranges")}
    return ApiKeyRow(**{**values, **lists})


_NAMES: Final = tuple(each.name for each in fields(ApiKeyRow))
_WRITTEN: Final = (
    "service_account",
    "prefix",
    "display_name",
    "role",
    "scopes",
    "source_ranges",
    "author",
)
_C: Final = tables.api_keys.c
_TABLE: Final = Listed(
    tables.api_keys,
    ApiKeyRow,
    _row,
    written=(*_WRITTEN, "key_hash"),
    computed={"expire_time": sa.func.app_now() + param("lifetime", sa.Interval)},
    filters=("service_account",),
)
_REVOKE: Final = Statement(
    sa.update(tables.api_keys)
    .where(_TABLE.one)
    .values(revoke_time=sa.func.coalesce(_C.revoke_time, sa.func.app_now()))
    .returning(*_TABLE.columns)
)
_FIND: Final = Statement(
    sa.select(_C.key_hash, _C.org_id, (_C.expire_time - sa.func.app_now()).label("remaining"), *_TABLE.columns).where(
        _C.key_hash == sa.any_(param("hashes", ARRAY(sa.LargeBinary))),
        _C.revoke_time.is_(None),
        sa.or_(_C.expire_time.is_(None), _C.expire_time > sa.func.app_now()),
    )
)
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


async def insert(tx: Tx, row: ApiKeyRow, digest: bytes, lifetime: timedelta | None) -> ApiKeyRow:
    """A new key, which works for `lifetime` (None: until it is revoked)."""
    values = {name: getattr(row, name) for name in _WRITTEN}
    values |= {"scopes": list(row.scopes), "source_ranges": list(row.source_ranges)}
    new = _TABLE.inserting(org_id=tx.org_id, id=row.id, key_hash=digest, lifetime=lifetime, **values)
    return _TABLE.returned(await tx.fetchrow(*new))


async def page(tx: Tx, account: str, after: Cursor | None, limit: int) -> list[ApiKeyRow]:
    """This tenant's (of one account, if it is not empty), oldest first, behind `after`."""
    call = _TABLE.paging(tx.org_id, after, limit, service_account=account or None)
    return [_row(record) for record in await tx.fetch(*call)]


async def revoke(tx: Tx, id: UUID) -> ApiKeyRow | None:
    """The key, which is over now if it was not; None when there is none."""
    record = await tx.fetchrow(*_REVOKE(org_id=tx.org_id, id=id))
    return _row(record) if record else None


async def find(tx: Tx, hashes: Sequence[bytes]) -> list[WorkingKey]:
    """The working keys among all tenants' keys: the tenant is known only from the key."""
    records = await tx.fetch(*_FIND(hashes=list(hashes)))
    return [WorkingKey(each["key_hash"], each["org_id"], _row(each), each["remaining"]) for each in records]


async def note_uses(tx: Tx, orgs: Sequence[str], ids: Sequence[UUID], ago: Sequence[timedelta]) -> None:
    """Store when keys were used last, in one statement; an earlier time than the stored one changes nothing."""
    await tx.execute(_NOTE_USES, list(orgs), list(ids), list(ago))


async def delete_over(tx: Tx, limit: int, *, older_than_days: int) -> int:
    """Delete keys of every tenant that were revoked or expired long ago, at most `limit`; returns how many."""
    return len(await tx.fetch(_DELETE_OVER, older_than_days, limit))
