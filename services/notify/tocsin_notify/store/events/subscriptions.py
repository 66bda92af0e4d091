"""Subscriptions: the tenant's choices, and their state."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.subscription import SubscriptionHealth


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tenant's choices. `event_types` by name, `policies` as `policies/{policy}`; empty: all. `least_severity` 0:
    all."""

    display_name: str
    url: str
    event_types: tuple[str, ...]
    policies: tuple[str, ...]
    least_severity: int
    disabled: bool


@dataclass(frozen=True, slots=True)
class Subscription(Chosen):
    """One as it is kept. Secrets are encrypted; `former_live`: requests carry the signature of the former one as well."""

    id: UUID
    org_id: str
    secret: bytes
    former_secret: bytes | None
    former_until: datetime | None
    creator: str
    failures: int
    failing_since: datetime | None
    failure: str
    resume_time: datetime | None
    stop_time: datetime | None
    proven: bool
    pending: int
    lost: int
    loss_time: datetime | None
    version: int
    create_time: datetime
    update_time: datetime

    def __repr__(self) -> str:
        return f"Subscription({self.id})"

    @property
    def standing(self) -> SubscriptionHealth:
        """Its state."""
        return SubscriptionHealth(
            self.failures, self.failing_since, self.failure, self.resume_time, self.stop_time, self.proven
        )


_CHOSEN: Final = [field.name for field in fields(Chosen)]
_COLUMNS: Final = columns(Subscription)
_INSERT: Final = f"""
INSERT INTO subscriptions (org_id, id, secret, creator, {", ".join(_CHOSEN)})
VALUES ($1, $2, $3, $4, {", ".join(f"${number}" for number in range(5, 5 + len(_CHOSEN)))}) RETURNING {_COLUMNS}
"""
_READ: Final = f"SELECT {_COLUMNS} FROM subscriptions WHERE org_id = $1 AND id = $2"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM subscriptions WHERE org_id = $1 AND (create_time, id) > ($2, $3) ORDER BY create_time, id LIMIT $4
"""
_DUE: Final = "CASE WHEN pending > 0 THEN app_now() END"
_UPDATE: Final = f"""
UPDATE subscriptions SET ({", ".join(_CHOSEN)}) = ({", ".join(f"${number}" for number in range(3, 3 + len(_CHOSEN)))}),
  due_time = {_DUE}, resume_time = NULL, version = version + 1, update_time = app_now()
WHERE org_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_ENABLE: Final = f"""
UPDATE subscriptions SET disabled = false, stop_time = NULL, failures = 0, failing_since = NULL, failure = '', resume_time = NULL,
  proven = false, due_time = {_DUE}, version = version + 1, update_time = app_now()
WHERE org_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_ROTATE: Final = f"""
UPDATE subscriptions SET secret = $3, former_secret = CASE WHEN $4 > 0 THEN secret END,
  former_until = CASE WHEN $4 > 0 THEN app_now() + make_interval(secs => $4) END, version = version + 1, update_time = app_now()
WHERE org_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_DELETE: Final = "DELETE FROM subscriptions WHERE org_id = $1 AND id = $2"
_LOCK_OF: Final = f"SELECT {_COLUMNS} FROM subscriptions WHERE org_id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE"
# A failing one is not read before its pause is over, however many deliveries wait.
_COUNT: Final = """
UPDATE subscriptions s SET pending = s.pending + g.stored, lost = s.lost + g.lost,
  loss_time = CASE WHEN g.lost > 0 THEN app_now() ELSE s.loss_time END,
  due_time = CASE WHEN g.stored > 0 THEN least(s.due_time, greatest(app_now(), s.resume_time)) ELSE s.due_time END
FROM unnest($1::text[], $2::uuid[], $3::int[], $4::int[]) AS g(org_id, id, stored, lost)
WHERE s.id = g.id AND s.org_id = g.org_id
"""
_MOST_LOOKED_AT: Final = 5000
"""Subscriptions that are read, the longest due first; the tenants alternate among them."""
_READY: Final = "due_time <= app_now() AND NOT disabled AND stop_time IS NULL"
# Tenants alternate: of each one at most as many as it has slots. Subscriptions that another replica holds are skipped.
# Rows are found by their ids: the condition after IS TRUE fits no index.
_CLAIM: Final = f"""
WITH due AS MATERIALIZED (
  SELECT id, org_id, due_time FROM subscriptions
  WHERE {_READY} AND org_id <> ALL($1::text[]) AND id <> ALL($2::uuid[]) AND ($3 OR (failures = 0 AND proven))
  ORDER BY due_time LIMIT {_MOST_LOOKED_AT}
), ranked AS MATERIALIZED (
  SELECT id, place FROM (SELECT *, row_number() OVER (PARTITION BY org_id ORDER BY due_time, id) AS place FROM due) AS d
  WHERE place <= $4 ORDER BY place, due_time, id LIMIT 4 * $5
)
SELECT {columns(Subscription, of="s")} FROM ranked r JOIN subscriptions s USING (id)
WHERE id = ANY(ARRAY(SELECT id FROM ranked)) AND ({_READY}) IS TRUE
ORDER BY r.place, s.due_time, s.id LIMIT $5 FOR NO KEY UPDATE OF s SKIP LOCKED
"""
_FARE: Final = """
UPDATE subscriptions SET failures = $3, failing_since = $4, failure = $5, resume_time = $6, stop_time = $7, proven = $8,
  pending = greatest(0, pending + $9),
  due_time = CASE WHEN pending + $9 > 0 THEN greatest(app_now(), $6::timestamptz) END
WHERE org_id = $1 AND id = $2
"""
_COUNT_ALL: Final = "SELECT count(*) FROM (SELECT FROM subscriptions WHERE org_id = $1 LIMIT $2) AS counted"
_TENANTS: Final = "SELECT DISTINCT org_id FROM subscriptions WHERE org_id > $1 ORDER BY org_id LIMIT $2"


async def insert(tx: Tx, id: UUID, secret: bytes, creator: str, chosen: Chosen) -> Subscription:
    """A new one; `secret` is encrypted."""
    return _required(await tx.fetchrow(_INSERT, tx.org_id, id, secret, creator, *_values(chosen)))


async def read(tx: Tx, id: UUID, *, lock: bool = False) -> Subscription | None:
    """One of the tenant."""
    row = await tx.fetchrow(_READ + (" FOR NO KEY UPDATE" if lock else ""), tx.org_id, id)
    return None if row is None else _subscription(row)


async def page(tx: Tx, after: tuple[datetime, UUID], limit: int) -> list[Subscription]:
    """Oldest first, behind a (create_time, id)."""
    return [_subscription(row) for row in await tx.fetch(_PAGE, tx.org_id, *after, limit)]


async def update(tx: Tx, id: UUID, chosen: Chosen) -> Subscription:
    """The new values of a locked one. Its waiting deliveries are read at once: it may have another URL now."""
    return _required(await tx.fetchrow(_UPDATE, tx.org_id, id, *_values(chosen)))


async def enable(tx: Tx, id: UUID) -> Subscription:
    """Let a locked one send as if it had never failed."""
    return _required(await tx.fetchrow(_ENABLE, tx.org_id, id))


async def rotate(tx: Tx, id: UUID, secret: bytes, keep_seconds: float) -> Subscription:
    """The new secret of a locked one, encrypted. The former one signs as well for `keep_seconds`."""
    return _required(await tx.fetchrow(_ROTATE, tx.org_id, id, secret, keep_seconds))


async def delete(tx: Tx, id: UUID) -> None:
    """With its deliveries."""
    await tx.execute(_DELETE, tx.org_id, id)


async def lock_of(tx: Tx, org_ids: Sequence[str]) -> list[Subscription]:
    """Those of these tenants, locked in one order."""
    return [_subscription(row) for row in await tx.fetch(_LOCK_OF, list(org_ids))]


async def count(tx: Tx, changes: Sequence[tuple[str, UUID, int, int]]) -> None:
    """How many deliveries were stored for locked ones (tenant, id, stored, lost), and how many events were dropped."""
    await tx.execute(_COUNT, *map(list, zip(*changes, strict=True)))


async def claim(
    tx: Tx, *, full: Sequence[str], busy: Sequence[UUID], doubtful: bool, per_tenant: int, limit: int
) -> list[Subscription]:
    """Subscriptions of all tenants that may have due deliveries, locked until the transaction ends.

    Excludes the tenants in `full` and the subscriptions in `busy`. Unless `doubtful`, it also excludes those whose last
    request failed and those that never accepted one.
    """
    rows = await tx.fetch(_CLAIM, list(full), list(busy), doubtful, per_tenant, limit)
    return [_subscription(row) for row in rows]


async def fare(tx: Tx, id: UUID, standing: SubscriptionHealth, pending: int) -> None:
    """The state of a locked one after a request; `pending` is added to the number of its waiting deliveries."""
    await tx.execute(
        _FARE,
        tx.org_id,
        id,
        standing.failures,
        standing.failing_since,
        standing.failure,
        standing.resume_time,
        standing.stop_time,
        standing.proven,
        pending,
    )


async def count_all(tx: Tx, most: int) -> int:
    """How many the tenant has, counted up to `most`."""
    found: int = await tx.fetchval(_COUNT_ALL, tx.org_id, most)
    return found


async def tenants(tx: Tx, after: str, limit: int) -> list[str]:
    """Tenants that have any, in the order of their ids, after one."""
    return [row["org_id"] for row in await tx.fetch(_TENANTS, after, limit)]


def _values(chosen: Chosen) -> list[object]:
    values: list[Any] = [getattr(chosen, name) for name in _CHOSEN]
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _required(row: Record | None) -> Subscription:
    assert row is not None, "the row is locked by this transaction, or made by it"
    return _subscription(row)


def _subscription(row: Record) -> Subscription:
    values = dict(row)
    return Subscription(
        **{**values, "event_types": tuple(values["event_types"]), "policies": tuple(values["policies"])}
    )
