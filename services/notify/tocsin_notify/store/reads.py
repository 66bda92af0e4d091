"""What people read about notifications and dead letters, page by page."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.page import State
from tocsin_notify.store.dead_letters import DeadLetterHead
from tocsin_notify.store.rows import Attempt, Shown

_COLUMNS: Final = """n.id, n.page_id, n.user_id, n.incident, n.generation, n.contact_method, n.channel, n.state,
  n.state_reason, n.create_time, n.due_time, n.send_time, p.type, p.level, p.repeat, p.planned_time, p.job"""
_READ: Final = f"""
SELECT {_COLUMNS} FROM notifications n
JOIN pages p ON p.id = n.page_id AND p.org_id IS NOT DISTINCT FROM n.org_id WHERE n.org_id = $1 AND n.id = $2
"""
_ATTEMPTS: Final = f"""
SELECT {columns(Attempt)} FROM attempts
WHERE org_id = $1 AND notification_id = $2 ORDER BY number
"""
_ATTEMPTS_OF: Final = f"""
SELECT notification_id, {columns(Attempt)} FROM attempts
WHERE org_id = $1 AND notification_id = ANY($2::uuid[]) ORDER BY notification_id, number
"""
_DEAD: Final = f"""
SELECT {columns(DeadLetterHead)} FROM dead_letters
WHERE {{tenant}} AND (create_time, id) < ($2, $3){{filters}}
ORDER BY create_time DESC, id DESC LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which notifications; what is empty does not matter."""

    incident: UUID | None = None
    user: str = ""
    states: Collection[State] = ()
    page: UUID | None = None


async def notification(tx: Tx, id: UUID) -> tuple[Shown, list[Attempt]] | None:
    """One with its attempts, oldest first."""
    row = await tx.fetchrow(_READ, tx.org_id, id)
    if row is None:
        return None
    return Shown(**dict(row)), [Attempt(*each) for each in await tx.fetch(_ATTEMPTS, tx.org_id, id)]


async def attempts_of(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    """The attempts of several notifications, oldest first."""
    found: dict[UUID, list[Attempt]] = {}
    for notification, *row in await tx.fetch(_ATTEMPTS_OF, tx.org_id, list(ids)):
        found.setdefault(notification, []).append(Attempt(*row))
    return found


async def notifications(tx: Tx, wanted: Filter, before: tuple[datetime, UUID], limit: int) -> list[Shown]:
    """Newest first, behind a (create_time, id). Only the filters given are part of the query, so each finds its index."""
    conditions: list[tuple[str, object]] = []
    states = ""
    if wanted.states:
        # Literals, so that the planner can use the index of what is not sent: a rare state is found without its history.
        states = f" AND n.state IN ({', '.join(sorted(repr(str(state)) for state in set(wanted.states)))})"
    if wanted.incident is not None:
        conditions.append(("n.incident = ${}", wanted.incident))
    if wanted.user:
        conditions.append(("n.user_id = ${}", wanted.user))
    if wanted.page is not None:
        conditions.append(("n.page_id = ${}", wanted.page))
    filters = "".join(f" AND {text.format(5 + place)}" for place, (text, _) in enumerate(conditions))
    rows = await tx.fetch(
        f"""SELECT {_COLUMNS} FROM notifications n
            JOIN pages p ON p.id = n.page_id AND p.org_id IS NOT DISTINCT FROM n.org_id
            WHERE n.org_id = $1 AND (n.create_time, n.id) < ($2, $3){filters}{states}
            ORDER BY n.create_time DESC, n.id DESC LIMIT $4""",
        tx.org_id,
        *before,
        limit,
        *(value for _, value in conditions),
    )
    return [Shown(**dict(row)) for row in rows]


async def dead_letters(
    tx: Tx, *, user: str, redriven: bool, before: tuple[datetime, UUID], limit: int
) -> list[DeadLetterHead]:
    """Newest first, without their jobs. A transaction of all tenants sees all, and what no tenant could be read from."""
    filters = "" if redriven else " AND redrive_time IS NULL"
    if user:
        filters += " AND user_id = $5"
    tenant = "$1 = '*'" if tx.org_id == "*" else "org_id = $1"
    query = _DEAD.format(tenant=tenant, filters=filters)
    rows = await tx.fetch(query, tx.org_id, *before, limit, *([user] if user else []))
    return [DeadLetterHead(*row) for row in rows]
