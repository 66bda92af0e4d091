"""Notifications that failed: what else their pages have, and what becomes of them; always in sets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.failover import Sibling
from tocsin_notify.domain.page import State

_KILL: Final = """
UPDATE notifications n SET state = 'dead', state_reason = g.reason, due_time = NULL, lease_until = NULL
FROM unnest($1::uuid[], $2::text[]) AS g(id, reason)
WHERE n.id = g.id AND n.state IN ('pending', 'sending', 'dead')
"""
# The attempts of the present count of tries: those before it belong to a dead letter that was redriven.
_BEGUN: Final = """
SELECT n.id, coalesce(a.start_time, n.create_time) AS begin_time, app_now() AS now FROM notifications n
LEFT JOIN attempts a ON a.notification_id = n.id AND a.number = n.attempts - n.tries + 1
WHERE n.id = ANY($1::uuid[])
"""
_KEEP: Final = """
UPDATE notifications n SET state = 'pending', state_reason = g.reason, priority = g.priority, lease_until = NULL,
  due_time = app_now() + make_interval(secs => g.delay)
FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::float8[]) AS g(id, reason, priority, delay)
WHERE n.id = g.id AND n.state IN ('sending', 'dead')
"""
_SIBLINGS: Final = """
SELECT id, page_id, contact_method, state, tries > 0 AS tried FROM notifications WHERE page_id = ANY($1::uuid[])
ORDER BY due_time NULLS FIRST, id
"""
_PULL_FORWARD: Final = """
UPDATE notifications SET due_time = least(due_time, app_now()) WHERE id = ANY($1::uuid[]) AND state = 'pending'
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A notification to try again in `delay` seconds, in the lane `priority`, although its attempts are used up."""

    id: UUID
    reason: str
    priority: int
    delay: float


async def kill(tx: Tx, reasons: dict[UUID, str]) -> None:
    """Give up these, saying why."""
    await tx.execute(_KILL, list(reasons), list(reasons.values()))


async def begun(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, tuple[datetime, float]]:
    """When each was tried for the first time (a redriven one: since then), and how many seconds ago that is."""
    rows = await tx.fetch(_BEGUN, ids)
    return {row["id"]: (row["begin_time"], (row["now"] - row["begin_time"]).total_seconds()) for row in rows}


async def keep(tx: Tx, kept: Sequence[Kept]) -> None:
    """Have these wait for another try."""
    await tx.execute(
        _KEEP,
        [each.id for each in kept],
        [each.reason for each in kept],
        [each.priority for each in kept],
        [each.delay for each in kept],
    )


async def siblings(tx: Tx, pages: Collection[UUID]) -> dict[UUID, list[Sibling]]:
    """Each page's notifications, earliest due first."""
    found: dict[UUID, list[Sibling]] = {page: [] for page in pages}
    for row in await tx.fetch(_SIBLINGS, list(pages)):
        found[row["page_id"]].append(Sibling(row["id"], row["contact_method"], State(row["state"]), row["tried"]))
    return found


async def pull_forward(tx: Tx, ids: Collection[UUID]) -> None:
    """Make these due now."""
    await tx.execute(_PULL_FORWARD, list(ids))
