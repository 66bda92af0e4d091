"""Events for subscriptions: stored, claimed, and the outcome of each request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.subscription import TRIES_IN_ORDER
from tocsin_notify.store.named import Named

LOGGED: Final = 20
"""Attempts that are kept of each delivery."""
_WINDOW: Final = 500
"""The oldest waiting deliveries of a subscription that a claim reads."""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """An event for one subscription."""

    id: UUID
    org_id: str
    subscription: UUID
    incident: UUID
    sequence: int
    type: str
    event: bytes


@dataclass(frozen=True, slots=True)
class EventDelivery:
    """A stored delivery. `incident` is None for a ping."""

    id: UUID
    org_id: str
    subscription: UUID
    incident: UUID | None
    sequence: int
    type: str
    event: bytes
    state: str
    attempts: int
    due_time: datetime | None
    since: datetime
    create_time: datetime
    end_time: datetime | None

    def __repr__(self) -> str:
        return f"EventDelivery({self.id})"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request. `status` is 0 without an answer."""

    number: int
    start_time: datetime
    end_time: datetime
    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Room:
    """How many deliveries of a locked subscription may be taken. `probing`: none while another one is under way. The one with the
    fewest tries is taken, even during its pause: that the endpoint always refuses one event says nothing about the others.
    """

    org_id: str
    subscription: UUID
    room: int
    probing: bool


_COLUMNS: Final = columns(EventDelivery)
_KNOWN: Final = """
SELECT d.id FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id)
JOIN event_deliveries d ON d.id = g.id AND d.org_id IS NOT DISTINCT FROM g.org_id
"""
_LAST: Final = """
SELECT g.subscription, g.incident, coalesce((
  SELECT max(d.sequence) FROM event_deliveries d
  WHERE d.subscription = g.subscription AND d.incident = g.incident AND d.org_id IS NOT DISTINCT FROM g.org_id), 0) AS sequence
FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS g(org_id, subscription, incident)
"""
_INSERT: Final = """
INSERT INTO event_deliveries (id, org_id, subscription, incident, sequence, type, event, state, due_time)
SELECT id, org_id, subscription, incident, sequence, type, event, 'pending', app_now()
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::int[], $6::text[], $7::bytea[])
  AS g(id, org_id, subscription, incident, sequence, type, event)
"""
_PING: Final = f"""
INSERT INTO event_deliveries (id, org_id, subscription, sequence, type, event, state, attempts, lease_until)
VALUES ($2, $1, $3, 0, $4, $5, 'sending', 1, app_now() + make_interval(secs => $6)) RETURNING {_COLUMNS}
"""
# An event waits for the previous event of its incident until that has failed often enough. An event that is sent again
# by hand delays no other one.
_TAKE: Final = f"""
WITH chosen AS (
  SELECT d.id, d.org_id FROM unnest($1::text[], $2::uuid[], $3::int[], $4::boolean[]) AS g(org_id, subscription, room, probing)
  CROSS JOIN LATERAL (
    SELECT w.id, w.org_id FROM (
      SELECT id, org_id, subscription, incident, sequence, state, attempts, due_time, lease_until, create_time FROM event_deliveries
      WHERE subscription = g.subscription AND org_id IS NOT DISTINCT FROM g.org_id AND end_time IS NULL
      ORDER BY create_time, sequence LIMIT {_WINDOW}) AS w
    WHERE ((w.state = 'pending' AND (g.probing OR w.due_time <= app_now()))
        OR (w.state = 'sending' AND w.lease_until <= app_now()))
      AND NOT EXISTS (
        SELECT FROM event_deliveries b WHERE b.subscription = w.subscription AND b.incident = w.incident
          AND b.sequence < w.sequence AND b.org_id IS NOT DISTINCT FROM g.org_id AND b.end_time IS NULL AND b.since = b.create_time
          AND (b.attempts < {TRIES_IN_ORDER} OR (b.attempts = {TRIES_IN_ORDER} AND b.state = 'sending')))
      AND (NOT g.probing OR NOT EXISTS (
        SELECT FROM event_deliveries o WHERE o.subscription = g.subscription AND o.org_id IS NOT DISTINCT FROM g.org_id
          AND o.end_time IS NULL AND o.state = 'sending' AND o.lease_until > app_now()))
    ORDER BY CASE WHEN g.probing THEN w.attempts END, w.create_time, w.sequence LIMIT g.room) AS d
)
UPDATE event_deliveries e SET state = 'sending', attempts = e.attempts + 1, due_time = NULL,
  lease_until = app_now() + make_interval(secs => $5)
FROM chosen c WHERE e.id = c.id AND e.org_id = c.org_id RETURNING {columns(EventDelivery, of="e")}
"""
# When to read them again, unless an answer changes that. Until then a lease or a pause may end.
_NEXT: Final = f"""
UPDATE subscriptions s SET due_time = coalesce(n.due_time, app_now() + interval '5 s')
FROM (SELECT g.org_id, g.subscription, (
        SELECT min(coalesce(w.lease_until, w.due_time)) FROM (
          SELECT lease_until, due_time FROM event_deliveries
          WHERE subscription = g.subscription AND org_id IS NOT DISTINCT FROM g.org_id AND end_time IS NULL
          ORDER BY create_time, sequence LIMIT {_WINDOW}) AS w
        WHERE coalesce(w.lease_until, w.due_time) > app_now()) AS due_time
      FROM unnest($1::text[], $2::uuid[]) AS g(org_id, subscription)) AS n
WHERE s.id = n.subscription AND s.org_id = n.org_id
"""
_CONCLUDE: Final = """
UPDATE event_deliveries SET lease_until = NULL, due_time = $5,
  state = CASE WHEN $5::timestamptz IS NOT NULL THEN 'pending' WHEN $4 THEN 'delivered' ELSE 'failed' END,
  end_time = CASE WHEN $5::timestamptz IS NULL THEN app_now() END
WHERE org_id = $1 AND id = $2 AND state = 'sending' AND attempts = $3 RETURNING id
"""
_LOG: Final = """
INSERT INTO delivery_attempts (org_id, delivery_id, number, start_time, status, detail) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
"""
_FORGET: Final = "DELETE FROM delivery_attempts WHERE org_id = $1 AND delivery_id = $2 AND number <= $3"
_AGAIN: Final = f"""
UPDATE event_deliveries SET state = 'pending', due_time = app_now(), lease_until = NULL, end_time = NULL, since = app_now()
WHERE org_id = $1 AND id = $2 AND state <> 'sending' RETURNING {_COLUMNS}
"""
_GIVE_BACK: Final = """
UPDATE event_deliveries SET state = 'pending', due_time = app_now(), lease_until = NULL
WHERE org_id = $1 AND id = $2 AND state = 'sending' AND attempts = $3 RETURNING id
"""
_READ: Final = f"SELECT {_COLUMNS} FROM event_deliveries WHERE org_id = $1 AND id = $2"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM event_deliveries
WHERE org_id IS NOT DISTINCT FROM $1 AND subscription = $2 AND (create_time, sequence, id) < ($3, $4, $5)
  AND state = ANY($6::text[])
ORDER BY create_time DESC, sequence DESC, id DESC LIMIT $7
"""
_ATTEMPTS: Final = """
SELECT delivery_id, number, start_time, end_time, status, detail FROM delivery_attempts
WHERE org_id IS NOT DISTINCT FROM $1 AND delivery_id = ANY($2::uuid[]) ORDER BY delivery_id, number
"""


async def known(tx: Tx, ids: Sequence[Named]) -> set[UUID]:
    """Those of these that are stored already."""
    rows = await tx.fetch(_KNOWN, [org_id for org_id, _ in ids], [id for _, id in ids])
    return {row["id"] for row in rows}


async def last(tx: Tx, pairs: Sequence[tuple[str, UUID, UUID]]) -> dict[tuple[UUID, UUID], int]:
    """The highest number that each subscription has for each incident (tenant, subscription, incident); 0 without one."""
    rows = await tx.fetch(_LAST, *map(list, zip(*pairs, strict=True)))
    return {(row["subscription"], row["incident"]): row["sequence"] for row in rows}


async def insert(tx: Tx, deliveries: Sequence[NewDelivery]) -> None:
    """New ones, due at once. Their subscriptions are locked."""
    await tx.execute(
        _INSERT,
        [each.id for each in deliveries],
        [each.org_id for each in deliveries],
        [each.subscription for each in deliveries],
        [each.incident for each in deliveries],
        [each.sequence for each in deliveries],
        [each.type for each in deliveries],
        [each.event for each in deliveries],
    )


async def insert_ping(tx: Tx, id: UUID, subscription: UUID, type_: str, event: bytes, lease: float) -> EventDelivery:
    """A ping whose only attempt is leased by the caller for `lease` seconds."""
    row = await tx.fetchrow(_PING, tx.org_id, id, subscription, type_, event, lease)
    assert row is not None
    return _delivery(row)


async def take(tx: Tx, rooms: Sequence[Room], lease: float) -> list[EventDelivery]:
    """Deliveries of locked subscriptions, leased by the caller for `lease` seconds; sets when each subscription is to
    be read again."""
    names = [room.org_id for room in rooms], [room.subscription for room in rooms]
    rows = await tx.fetch(_TAKE, *names, [room.room for room in rooms], [room.probing for room in rooms], lease)
    await tx.execute(_NEXT, *names)
    return [_delivery(row) for row in rows]


async def conclude(tx: Tx, id: UUID, number: int, *, taken: bool, due_time: datetime | None) -> bool:
    """The outcome of attempt `number`; without a `due_time` the delivery has ended. False when another replica has
    taken it over."""
    return await tx.fetchval(_CONCLUDE, tx.org_id, id, number, taken, due_time) is not None


async def log(tx: Tx, id: UUID, attempt: Attempt) -> None:
    """Store one request, and delete the oldest beyond the limit."""
    await tx.execute(_LOG, tx.org_id, id, attempt.number, attempt.start_time, attempt.status, attempt.detail)
    if attempt.number > LOGGED:
        await tx.execute(_FORGET, tx.org_id, id, attempt.number - LOGGED)


async def give_back(tx: Tx, id: UUID, number: int) -> bool:
    """End the lease because this process stops. False when another replica has taken the delivery."""
    return await tx.fetchval(_GIVE_BACK, tx.org_id, id, number) is not None


async def send_again(tx: Tx, id: UUID) -> EventDelivery | None:
    """Make one due at once, whether it has ended or waits; None when a request of it is under way."""
    row = await tx.fetchrow(_AGAIN, tx.org_id, id)
    return None if row is None else _delivery(row)


async def read(tx: Tx, id: UUID, *, lock: bool = False) -> EventDelivery | None:
    """One of the tenant."""
    row = await tx.fetchrow(_READ + (" FOR UPDATE" if lock else ""), tx.org_id, id)
    return None if row is None else _delivery(row)


async def page(
    tx: Tx, subscription: UUID, states: Sequence[str], before: tuple[datetime, int, UUID], limit: int
) -> list[EventDelivery]:
    """Those of a subscription in one of `states`, newest first, behind a (create_time, sequence, id)."""
    rows = await tx.fetch(_PAGE, tx.org_id, subscription, *before, list(states), limit)
    return [_delivery(row) for row in rows]


async def attempts_of(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    """The kept attempts of each, oldest first."""
    found: dict[UUID, list[Attempt]] = {id: [] for id in ids}
    for row in await tx.fetch(_ATTEMPTS, tx.org_id, list(ids)):
        values = dict(row)
        found[values.pop("delivery_id")].append(Attempt(**values))
    return found


def _delivery(row: Record) -> EventDelivery:
    return EventDelivery(**dict(row))
