"""Rows that may be due, found without a lock; `notifications.claim` takes them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.page import CRITICAL, LATE, PAGES, SLOW, Channel, Kind
from tocsin_notify.store.delivery.notifications import EARLY
from tocsin_notify.store.delivery.rows import NotificationHead
from tocsin_notify.store.pages.fences import stops
from tocsin_notify.store.queues import PAUSED

_KNOWN: Final = list(Channel)
"""Rows of a channel that only a newer version knows are left to it. If this version read them, every query for due rows
would fail."""

# A bundle is made of pages that have waited, however young it is itself. A page that arrived late is as old as it can be.
_AGE: Final = f"""CASE WHEN n.page_id = n.incident OR EXISTS (
    SELECT FROM pages p WHERE p.id = n.page_id AND p.type IN ({", ".join(f"'{kind}'" for kind in sorted(PAGES))})
      AND p.planned_time < n.create_time - interval '{LATE.total_seconds()} s')
  THEN 'Infinity' ELSE extract(epoch FROM app_now() - n.create_time)::float8 END AS age"""

# Fair: one row of every tenant before the second row of any. The tenants are found by jumping from one to the next in
# the index, so a tenant with a million due rows costs no more than one with ten. The next round continues after the
# last tenant that was read, not after the last one with due rows. Of all tenants together, only as many rows are read
# as there may be slots for, and two rows of each: reading rows that cannot leave would delay all others.
#
# Rows are compared as a whole, and the order names columns that are equal in all of them. With `priority = $1` the
# planner may use another index of pending rows, and does so while statistics say that nothing is pending. It would then
# read a whole backlog for each tenant.
_OF_LANE: Final = "state = 'pending' AND (priority, org_id) > ($1, {after}) AND (priority, org_id) < ($1 + 1, '')"
_DUE_OF: Final = """state = 'pending' AND (priority, org_id, due_time) >= ($1, {org}, '-infinity')
      AND (priority, org_id, due_time) <= ($1, {org}, app_now())
      AND contact_method <> ALL($5::uuid[]) AND channel = ANY($6::text[])"""
_CANDIDATES: Final = f"""
WITH RECURSIVE orgs(org_id, n) AS (
  (SELECT org_id, 1 FROM notifications WHERE {_OF_LANE.format(after="$2")} ORDER BY priority, org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT org_id FROM notifications WHERE {_OF_LANE.format(after="o.org_id")} ORDER BY priority, org_id LIMIT 1), o.n + 1
  FROM orgs o WHERE o.org_id IS NOT NULL AND o.n < $3
), crowd AS MATERIALIZED (
  SELECT o.org_id, o.n, least($4, $7 / count(*) OVER () + 2) AS share FROM orgs o CROSS JOIN LATERAL (
    SELECT FROM notifications WHERE {_DUE_OF.format(org="o.org_id")} ORDER BY priority, org_id, due_time LIMIT 1
  ) something
), found AS (
  SELECT c.n, c.share < $4 AND d.turn = c.share AS cut, d.* FROM crowd c CROSS JOIN LATERAL (
    SELECT id, org_id, incident, channel, priority, contact_method, {_AGE},
      row_number() OVER (ORDER BY priority, org_id, due_time) AS turn
    FROM notifications n WHERE {_DUE_OF.format(org="c.org_id")} ORDER BY priority, org_id, due_time LIMIT c.share
  ) d
)
SELECT d.*, c.address, l.last
FROM (SELECT (SELECT org_id FROM orgs WHERE n = $3) AS last) l
LEFT JOIN found d ON true LEFT JOIN contact_methods c ON c.id = d.contact_method
ORDER BY d.turn, d.n
"""
# Reads the first row of an index for each lane, so that a round skips lanes in which nothing waits. Each part names the
# order of its index: otherwise the planner may use another index of pending rows, and read a whole backlog.
_LOOK: Final = """
SELECT (SELECT lease_until <= app_now() FROM notifications WHERE state = 'sending' ORDER BY lease_until LIMIT 1) IS TRUE AS expired,
  CASE WHEN (SELECT due_time <= app_now() FROM notifications WHERE state = 'pending' ORDER BY due_time, id LIMIT 1)
       THEN ARRAY(SELECT lane FROM unnest($1::smallint[]) AS lane CROSS JOIN LATERAL (
                    SELECT FROM notifications WHERE state = 'pending' AND priority BETWEEN lane AND lane
                    ORDER BY priority, org_id LIMIT 1) AS something)
       ELSE '{}' END AS lanes
"""
_EXPIRED: Final = f"""
SELECT n.id, n.org_id, n.incident, n.channel, n.priority, n.contact_method, c.address, {_AGE}
FROM notifications n JOIN contact_methods c ON c.id = n.contact_method
WHERE n.state = 'sending' AND n.lease_until <= app_now() AND n.channel = ANY($2::text[])
ORDER BY row_number() OVER (PARTITION BY n.org_id ORDER BY n.lease_until), n.lease_until LIMIT $1
"""
# FOR SHARE: two processes that look at once do not take each other for one that holds the rows. FOR KEY SHARE would not meet
# another session's UPDATE either, for which an outcome waits.
_UNLOCKED: Final = (
    "SELECT id, lease_until FROM notifications WHERE id = ANY($1::uuid[]) ORDER BY id FOR SHARE SKIP LOCKED"
)
_NAMED: Final = f"""
SELECT n.id, n.org_id, n.incident, n.channel, n.priority, n.contact_method, c.address, {_AGE}
FROM notifications n JOIN contact_methods c ON c.id = n.contact_method
WHERE n.id = ANY($1::uuid[]) AND n.state = 'pending' AND n.channel = ANY($2::text[]) ORDER BY n.priority, n.due_time
"""
# In the order of the index `notifications_due`: in the order of ids the planner might read all notifications ever sent.
_TRIED_BEFORE: Final = f"""
SELECT n.id, n.org_id, n.incident, n.channel, n.priority, n.contact_method, c.address, n.due_time
FROM notifications n JOIN contact_methods c ON c.id = n.contact_method
WHERE n.state = 'pending' AND n.tries > 0 AND n.priority < {SLOW[CRITICAL]} AND n.channel = ANY($1::text[])
  AND (n.due_time, n.id) > ($2, $3)
ORDER BY n.due_time, n.id LIMIT $4
"""
_PAGES_OF: Final = "SELECT id, org_id, page_id FROM notifications WHERE id = ANY($1::uuid[]) AND state = 'pending'"
# Rows that another session holds are skipped: they are being claimed, or stopped.
_HOLD_PAGES: Final = f"""
SELECT {columns(NotificationHead, of="n")} FROM notifications n
JOIN pages p ON p.id = n.page_id AND p.org_id IS NOT DISTINCT FROM n.org_id
WHERE n.id = ANY($1::uuid[]) AND n.page_id = ANY($2::uuid[]) AND n.state = 'pending' AND p.type = ANY($3::text[])
  AND ($4 OR n.due_time <= app_now() + make_interval(secs => {EARLY}))
  AND NOT {PAUSED}
  AND NOT EXISTS (SELECT FROM cancel_fences f
                  WHERE f.org_id = n.org_id AND f.incident = n.incident AND {stops("f", "n")})
ORDER BY n.id FOR UPDATE OF n SKIP LOCKED
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be due; read without a lock."""

    id: UUID
    org_id: str
    incident: UUID | None
    channel: Channel
    priority: int
    contact_method: UUID
    address: str
    age: float = 0.0
    """Seconds since it was stored."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one look at a lane found."""

    rows: list[Candidate]
    last: str
    """The last tenant that was looked at; empty if there are no more."""
    cut: bool
    """More rows of some tenant may be due than were read, because of the limit on all rows, not because of the tenant's
    own limit."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where a round may find something."""

    expired: bool
    """At least one lease is over."""
    lanes: Collection[int]
    """Priorities in which notifications wait; none, if no notification is due."""


async def look(tx: Tx, lanes: Collection[int]) -> Waiting:
    """Where to look for candidates."""
    (row,) = await tx.fetch(_LOOK, list(lanes))
    return Waiting(*row)


async def due(
    tx: Tx,
    priority: int,
    *,
    after_org: str,
    orgs: int,
    per_org: int,
    beyond: int,
    but: Collection[UUID] = (),
    but_channels: Collection[Channel] = (),
) -> Found:
    """Due rows in fair order, of at most `orgs` tenants after `after_org`.

    At most `per_org` of each tenant, and of all together `beyond` and two of each tenant. `but`, `but_channels`:
    contact methods and channels whose rows are skipped.
    """
    rows = await tx.fetch(
        _CANDIDATES,
        priority,
        after_org,
        orgs,
        per_org,
        list(but),
        [name for name in _KNOWN if name not in but_channels],
        beyond,
    )
    found = [row for row in rows if row["id"] is not None]
    return Found([_candidate(row) for row in found], rows[0]["last"] or "", any(row["cut"] for row in found))


async def expired(tx: Tx, limit: int) -> list[Candidate]:
    """Rows whose sender vanished: one row of every tenant before the second row of any."""
    return [_candidate(row) for row in await tx.fetch(_EXPIRED, limit, _KNOWN)]


async def unlocked(tx: Tx, ids: Collection[UUID]) -> dict[UUID, datetime]:
    """Those of these expired rows that no other transaction changes, or holds to change them, at this moment; and the end of
    their lease."""
    return {row["id"]: row["lease_until"] for row in await tx.fetch(_UNLOCKED, list(ids))}


async def named(tx: Tx, ids: Collection[UUID]) -> list[Candidate]:
    """Those of these ids that are pending."""
    return [_candidate(row) for row in await tx.fetch(_NAMED, list(ids), _KNOWN)]


async def tried_before(
    tx: Tx, channels: Collection[Channel], after: datetime, after_id: UUID, limit: int
) -> tuple[list[Candidate], tuple[datetime, UUID] | None]:
    """Notifications that wait for another attempt through these channels, earliest due first; without slow retries.

    It begins after the given due time and id. It also returns those of the last row, or None when there are no more.
    """
    rows = await tx.fetch(_TRIED_BEFORE, list(channels), after, after_id, limit)
    last = (rows[-1]["due_time"], rows[-1]["id"]) if len(rows) == limit else None
    return [_candidate(row) for row in rows], last


async def pages_of(tx: Tx, ids: Collection[UUID]) -> dict[UUID, tuple[str, UUID]]:
    """The page (tenant, id) of each of these notifications that is pending."""
    return {row["id"]: (row["org_id"], row["page_id"]) for row in await tx.fetch(_PAGES_OF, list(ids))}


async def hold_pages(
    tx: Tx, ids: Collection[UUID], pages: Collection[UUID], kinds: Collection[Kind], *, early: bool
) -> list[NotificationHead]:
    """Those of these ids that are pending, belong to these pages and kinds, and are stopped by no fence; locked.

    They are due, unless `early`. The caller holds `pages` (`pages.lock`): a session that holds a notification may wait
    for its page.
    """
    rows = await tx.fetch(_HOLD_PAGES, list(ids), list(pages), list(kinds), early)
    return [NotificationHead(*row) for row in rows]


def _candidate(row: asyncpg.Record) -> Candidate:
    return Candidate(
        row["id"],
        row["org_id"],
        row["incident"],
        Channel(row["channel"]),
        row["priority"],
        row["contact_method"],
        row["address"],
        row.get("age", 0.0),
    )
