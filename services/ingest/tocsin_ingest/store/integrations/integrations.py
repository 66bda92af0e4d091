"""Integrations and the hashes of their keys."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import Statement, columns_of, constant, param, params_of

from tocsin_ingest.store.tables import integrations

Version = tuple[int, datetime, datetime]
"""With the times at which the integration was made and last changed. The number alone may come twice: it begins at 1 again when
the integration is deleted and made anew, and goes back when a standby takes over that lacks the last changes.
"""


@dataclass(frozen=True, slots=True)
class IntegrationRow:
    """One integration. `routing_rules` is a serialized `Integration` with nothing else set but its mapping, mail and signature."""

    integration_id: str
    display_name: str
    default_policy: str
    routing_rules: bytes
    source_ranges: tuple[str, ...]
    """Where its keys may be used; empty: anywhere."""
    auto_resolve_after: timedelta | None
    """Its incidents are resolved after so long without a trigger; None: never."""
    heartbeat_interval: timedelta | None
    """A heartbeat must come once in so long; None: none is expected."""
    heartbeat_time: datetime | None
    heartbeat_due_time: datetime | None
    heartbeat_missing: bool
    signature_secret: bytes | None
    """Closed (`tocsin_kit.secret_boxes`); None: its alerts need no signature."""
    version: int
    create_time: datetime
    update_time: datetime
    key_prefixes: tuple[str, ...]
    key_expire_time: datetime | None
    """Of the newest key; None: it works until it is rotated."""

    @property
    def version_key(self) -> Version:
        """Differs from that of every other state of any integration of this name."""
        return self.version, self.create_time, self.update_time


@dataclass(frozen=True, slots=True)
class IntegrationConfig:
    """The columns of an integration that its owner writes; see `IntegrationRow`."""

    display_name: str
    default_policy: str = ""
    routing_rules: bytes = b""
    source_ranges: Sequence[str] = ()
    auto_resolve_after: timedelta | None = None
    signature_secret: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """Whom a key belongs to, and how long it still works (None: for good; below zero: no key of its integration works any more)."""

    org_id: str
    integration_id: str
    remaining: timedelta | None
    source_ranges: tuple[str, ...]


# Keys that work now, the current one first; no more than are worth showing.
_PREFIXES: Final[sa.ColumnElement[str]] = sa.literal_column(
    """ARRAY(SELECT prefix FROM integration_keys WHERE integration_keys.org_id = integrations.org_id
  AND integration_keys.integration_id = integrations.integration_id
  AND (expire_time IS NULL OR expire_time > app_now())
  ORDER BY integration_keys.create_time DESC LIMIT 10)"""
)
_KEY_EXPIRE_TIME: Final[sa.ColumnElement[datetime]] = sa.literal_column(
    """(SELECT expire_time FROM integration_keys WHERE integration_keys.org_id = integrations.org_id
  AND integration_keys.integration_id = integrations.integration_id
  ORDER BY integration_keys.create_time DESC LIMIT 1)"""
)
# Works, or is over while no other key of its integration works: then its people must hear of what it is refused.
_NOT_REPLACED: Final = """(expire_time IS NULL OR expire_time > app_now() OR NOT EXISTS (
          SELECT FROM integration_keys AS other
          WHERE other.org_id = integration_keys.org_id AND other.integration_id = integration_keys.integration_id
            AND (other.expire_time IS NULL OR other.expire_time > app_now())))"""
_MINE: Final = integrations.c.org_id == param("org_id")
_ONE: Final = sa.and_(_MINE, integrations.c.integration_id == param("integration_id"))
_WRITABLE: Final = params_of(integrations, tuple(each.name for each in fields(IntegrationConfig)))
_SELECT: Final = sa.select(
    *columns_of(integrations, IntegrationRow, key_prefixes=_PREFIXES, key_expire_time=_KEY_EXPIRE_TIME)
)
_GET: Final = Statement(_SELECT.where(_ONE))
_LOCK: Final = Statement(_SELECT.where(_ONE).with_for_update())
_PAGE: Final = Statement(
    _SELECT.where(_MINE, integrations.c.integration_id > param("after"))
    .order_by(integrations.c.integration_id)
    .limit(param("limit"))
)
_VERSION: Final = Statement(
    sa.select(integrations.c.version, integrations.c.create_time, integrations.c.update_time).where(_ONE)
)
_INSERT: Final = Statement(
    pg.insert(integrations)
    .values(params_of(integrations, ("org_id", "integration_id")) | _WRITABLE)
    .on_conflict_do_nothing()
    .returning(integrations.c.integration_id)
)
_UPDATE: Final = Statement(
    sa.update(integrations)
    .where(_ONE)
    .values(_WRITABLE | {"version": integrations.c.version + constant(1), "update_time": sa.func.app_now()})
)
_DELETE: Final = Statement(sa.delete(integrations).where(_ONE))


async def insert(tx: Tx, integration_id: str, config: IntegrationConfig) -> bool:
    """Adds an integration; False when the id is taken."""
    new = _INSERT(org_id=tx.org_id, integration_id=integration_id, **asdict(config))
    return await tx.fetchval(*new) is not None


async def get(tx: Tx, integration_id: str, *, lock: bool = False) -> IntegrationRow | None:
    """Reads one; `lock` keeps others from changing it until the transaction ends."""
    statement = _LOCK if lock else _GET
    row = await tx.fetchrow(*statement(org_id=tx.org_id, integration_id=integration_id))
    return _row(row) if row else None


async def page(tx: Tx, after: str, limit: int) -> Sequence[IntegrationRow]:
    """Up to `limit` integrations by id, those after `after`."""
    return [_row(row) for row in await tx.fetch(*_PAGE(org_id=tx.org_id, after=after, limit=limit))]


async def update(tx: Tx, integration_id: str, config: IntegrationConfig) -> None:
    """Replaces what can be changed, as the next version."""
    await tx.execute(*_UPDATE(org_id=tx.org_id, integration_id=integration_id, **asdict(config)))


async def delete(tx: Tx, integration_id: str) -> None:
    """Removes it with its keys; its alerts and incidents stay."""
    await tx.execute(*_DELETE(org_id=tx.org_id, integration_id=integration_id))


async def insert_key(
    tx: Tx, integration_id: str, digest: bytes, prefix: str, lifetime: timedelta | None, mail_digest: bytes
) -> None:
    """Adds the current key. The one before must have been retired."""
    await tx.execute(
        """INSERT INTO integration_keys (key_hash, org_id, integration_id, prefix, expire_time, mail_hash)
        VALUES ($1, $2, $3, $4, app_now() + $5::interval, $6)""",
        digest,
        tx.org_id,
        integration_id,
        prefix,
        lifetime,
        mail_digest,
    )


async def retire_keys(tx: Tx, integration_id: str, grace: timedelta) -> None:
    """Lets every key of the integration work for `grace` longer at most, and forgets those that are over."""
    await tx.execute(
        """WITH retired AS (
          UPDATE integration_keys SET expire_time = least(expire_time, app_now() + $3)
          WHERE org_id = $1 AND integration_id = $2 AND (expire_time IS NULL OR expire_time > app_now())
        )
        DELETE FROM integration_keys WHERE org_id = $1 AND integration_id = $2 AND expire_time <= app_now()""",
        tx.org_id,
        integration_id,
        grace,
    )


async def find_keys(tx: Tx, digests: Sequence[bytes]) -> dict[bytes, KeyRow]:
    """Whose keys they are, among all tenants'; without those that are unknown, replaced or whose integration is gone."""
    rows = await tx.fetch(
        f"""SELECT key_hash, org_id, integration_id, expire_time - app_now() AS remaining, source_ranges
        FROM integration_keys JOIN integrations USING (org_id, integration_id)
        WHERE key_hash = ANY($1) AND {_NOT_REPLACED}""",
        digests,
    )
    return {row["key_hash"]: _key_row(row) for row in rows}


async def find_mail_address(tx: Tx, digest: bytes) -> KeyRow | None:
    """Whose key the mail address was made of, among all tenants'; None as `find_keys`."""
    row = await tx.fetchrow(
        f"""SELECT org_id, integration_id, expire_time - app_now() AS remaining, source_ranges
        FROM integration_keys JOIN integrations USING (org_id, integration_id)
        WHERE mail_hash = $1 AND {_NOT_REPLACED}""",
        digest,
    )
    return None if row is None else _key_row(row)


async def version_of(tx: Tx, integration_id: str) -> Version | None:
    """Which state of the integration is the newest; None when there is no such integration."""
    row = await tx.fetchrow(*_VERSION(org_id=tx.org_id, integration_id=integration_id))
    return (row["version"], row["create_time"], row["update_time"]) if row else None


def _key_row(row: asyncpg.Record) -> KeyRow:
    return KeyRow(row["org_id"], row["integration_id"], row["remaining"], tuple(row["source_ranges"]))


def _row(row: asyncpg.Record) -> IntegrationRow:
    return IntegrationRow(
        row["integration_id"],
        row["display_name"],
        row["default_policy"],
        row["routing_rules"],
        tuple(row["source_ranges"]),
        row["auto_resolve_after"],
        row["heartbeat_interval"],
        row["heartbeat_time"],
        row["heartbeat_due_time"],
        row["heartbeat_missing"],
        row["signature_secret"],
        row["version"],
        row["create_time"],
        row["update_time"],
        tuple(row["key_prefixes"]),
        row["key_expire_time"],
    )
