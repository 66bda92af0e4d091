"""Notifications that failed: the other notifications of their pages, and their new state; always in sets."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.failover import GONE, REMOVED, Sibling
from tocsin_notify.domain.page import CRITICAL, SLOW, State
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.named import Named, in_columns

# The tenant is compared with IS NOT DISTINCT FROM, which cannot use an index: rows are found by their ids. Where the
# planner could still prefer to read all rows, = ANY repeats the ids.
_KILL: Final = """
UPDATE notifications n SET state = 'dead', state_reason = g.reason, due_time = NULL, lease_until = NULL
FROM unnest($1::text[], $2::uuid[], $3::text[]) AS g(org_id, id, reason)
WHERE n.id = g.id AND n.org_id IS NOT DISTINCT FROM g.org_id AND n.state IN ('pending', 'sending', 'dead')
"""
# The attempts of the present count of tries: those before it belong to a dead letter that was redriven.
_BEGUN: Final = """
SELECT n.id, coalesce(a.start_time, n.create_time) AS begin_time, app_now() AS now, n.tries
FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id)
JOIN notifications n ON n.id = g.id AND n.org_id IS NOT DISTINCT FROM g.org_id
LEFT JOIN attempts a ON a.notification_id = n.id AND a.number = n.attempts - n.tries + 1
  AND a.org_id IS NOT DISTINCT FROM n.org_id
"""
_KEEP: Final = """
UPDATE notifications n SET state = 'pending', state_reason = g.reason, priority = g.priority, lease_until = NULL,
  due_time = app_now() + make_interval(secs => g.delay)
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::smallint[], $5::float8[]) AS g(org_id, id, reason, priority, delay)
WHERE n.id = g.id AND n.org_id IS NOT DISTINCT FROM g.org_id AND n.state IN ('pending', 'sending', 'dead')
"""
_SIBLINGS: Final = """
SELECT n.id, n.page_id, n.contact_method, n.state, n.tries > 0 AS tried,
  n.state_reason = $3 OR starts_with(n.state_reason, $4) AS gone, EXISTS (
    SELECT FROM attempts a WHERE a.org_id = n.org_id AND a.notification_id = n.id AND a.outcome = 'sent') AS taken
FROM unnest($1::text[], $2::uuid[]) AS g(org_id, page_id)
JOIN notifications n ON n.page_id = g.page_id AND n.org_id IS NOT DISTINCT FROM g.org_id
WHERE n.page_id = ANY($2::uuid[])
ORDER BY n.due_time NULLS FIRST, n.id
"""
# Through the incident's index. Rows that another session holds are skipped: they are being tried, or cancelled.
_SUPERSEDE: Final = f"""
WITH older AS (
  SELECT n.id, g.page_id FROM unnest($1::text[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[])
    AS g(org_id, incident, user_id, contact_method, page_id)
  JOIN notifications n ON n.org_id = g.org_id AND n.incident = g.incident AND n.user_id = g.user_id
    AND n.contact_method = g.contact_method AND n.page_id <> g.page_id
    AND n.state = 'pending' AND n.priority >= {SLOW[CRITICAL]}
  ORDER BY n.id FOR UPDATE OF n SKIP LOCKED
)
UPDATE notifications n SET state = 'cancelled', due_time = NULL, state_reason = 'superseded by pages/' || o.page_id
FROM older o WHERE n.id = o.id RETURNING n.id
"""
_PULL_FORWARD: Final = """
UPDATE notifications n SET due_time = least(n.due_time, app_now()) FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id)
WHERE n.id = ANY($2::uuid[]) AND n.id = g.id AND n.org_id IS NOT DISTINCT FROM g.org_id AND n.state = 'pending'
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A notification to try in `delay` seconds, in the lane `priority`, although its attempts are used up or its provider fails."""

    org_id: str
    id: UUID
    reason: str
    priority: int
    delay: float


@dataclass(frozen=True, slots=True)
class Begun:
    """When a notification was tried for the first time, how many seconds ago that is, and how often it was tried since."""

    time: datetime
    age: float
    tries: int


async def kill(tx: Tx, reasons: Mapping[Named, str]) -> None:
    """Give up these, saying why."""
    await tx.execute(_KILL, *in_columns(reasons), list(reasons.values()))


async def begun(tx: Tx, ids: Collection[Named]) -> dict[UUID, Begun]:
    """When each was tried first, and how often since; for a redriven one, since the redrive."""
    rows = await tx.fetch(_BEGUN, *in_columns(ids))
    return {
        row["id"]: Begun(row["begin_time"], (row["now"] - row["begin_time"]).total_seconds(), row["tries"])
        for row in rows
    }


async def keep(tx: Tx, kept: Sequence[Kept]) -> None:
    """Let these wait for another attempt."""
    await tx.execute(
        _KEEP,
        [each.org_id for each in kept],
        [each.id for each in kept],
        [each.reason for each in kept],
        [each.priority for each in kept],
        [each.delay for each in kept],
    )


async def siblings(tx: Tx, pages: Collection[Named]) -> dict[UUID, list[Sibling]]:
    """Each page's notifications, earliest due first."""
    found: dict[UUID, list[Sibling]] = {page: [] for _, page in pages}
    for row in await tx.fetch(_SIBLINGS, *in_columns(pages), GONE, REMOVED):
        state, method = State(row["state"]), row["contact_method"]
        sibling = Sibling(row["id"], method, state, row["tried"], row["taken"], gone=row["gone"])
        found[row["page_id"]].append(sibling)
    return found


async def pull_forward(tx: Tx, ids: Collection[Named]) -> None:
    """Make these due now."""
    await tx.execute(_PULL_FORWARD, *in_columns(ids))


async def supersede(tx: Tx, newer: Sequence[NewNotification]) -> list[UUID]:
    """Cancel slow retries for the same user, incident and method as these; returns the ids."""
    rows = await tx.fetch(
        _SUPERSEDE,
        [each.org_id for each in newer],
        [each.incident for each in newer],
        [each.user_id for each in newer],
        [each.contact_method for each in newer],
        [each.page_id for each in newer],
    )
    return [row["id"] for row in rows]
