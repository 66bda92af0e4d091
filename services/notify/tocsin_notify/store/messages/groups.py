"""Group messages that are due, and the messages that they become."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.message import GROUP, Step, Stored
from tocsin_notify.domain.page import State
from tocsin_notify.store.fair_claims import fairly_taken
from tocsin_notify.store.messages.messages import Message, message_of


@dataclass(frozen=True, slots=True)
class Leased:
    """A group message that this replica works on. `tries`: how often it was leased since it became due. `expired`: it
    may not be sent any more."""

    message: Message
    tries: int
    expired: bool


_DUE: Final = fairly_taken(
    "messages",
    time="send_time",
    living=f"state = 'scheduled' AND channel = '{GROUP}'",
    due="send_time <= app_now() AND (lease_until IS NULL OR lease_until <= app_now())",
)
_CLAIM: Final = f"""
WITH RECURSIVE {_DUE}
UPDATE messages m SET lease_until = app_now() + make_interval(secs => $2), tries = m.tries + 1 FROM taken t WHERE m.id = t.id
RETURNING {columns(Message, of="m")}, m.tries,
  coalesce(m.send_time + make_interval(secs => m.expire_seconds) <= app_now(), false) AS expired
"""
_HOLD: Final = """
SELECT m.id FROM unnest($2::uuid[], $3::int[]) AS g(id, version)
JOIN messages m ON m.org_id = $1 AND m.id = g.id AND m.version = g.version AND m.state = 'scheduled' ORDER BY m.id FOR UPDATE OF m
"""
_DIVIDE: Final = """
INSERT INTO messages (org_id, id, parent, user_id, sender, subject, body, about, urgency, send_time, expire_seconds)
SELECT m.org_id, g.id, m.id, g.user_id, m.sender, m.subject, m.body, m.about, m.urgency, m.send_time, m.expire_seconds
FROM unnest($2::uuid[], $3::uuid[], $4::text[]) AS g(parent, id, user_id) JOIN messages m ON m.org_id = $1 AND m.id = g.parent
ON CONFLICT (id) DO NOTHING
"""
_WAIT: Final = """
UPDATE messages m SET lease_until = app_now() + make_interval(secs => g.delay), state_reason = $4
FROM unnest($2::uuid[], $3::double precision[], $5::int[]) AS g(id, delay, version)
WHERE m.org_id = $1 AND m.id = g.id AND m.version = g.version AND m.state = 'scheduled'
"""
_AGAIN: Final = """
UPDATE messages SET state = 'scheduled', state_reason = '', lease_until = NULL, tries = 0, version = version + 1,
  update_time = app_now()
WHERE id = $1 AND org_id = $2 AND channel = $3 AND state = 'released' RETURNING id
"""
_RECEIVERS: Final = "SELECT user_id FROM messages WHERE org_id = $1 AND parent = $2 ORDER BY user_id LIMIT $3"
# A message for which no notification could be made has failed; one that waits for its notification is under way.
_PARTS: Final = f"""
SELECT c.parent, s.state, coalesce(n.attempts > 0, false) AS begun, max(coalesce(n.state_reason, c.state_reason)) AS reason
FROM messages c LEFT JOIN notifications n ON n.org_id = c.org_id AND n.page_id = c.id
CROSS JOIN LATERAL (SELECT coalesce(n.state, CASE c.state WHEN 'scheduled' THEN '{State.PENDING}'
  WHEN 'cancelled' THEN '{State.CANCELLED}' ELSE '{State.DEAD}' END) AS state) s
WHERE c.org_id = $1 AND c.parent = ANY($2::uuid[]) GROUP BY 1, 2, 3
"""
_LOCK: Final = "SELECT id FROM messages WHERE org_id = $1 AND parent = $2 ORDER BY id FOR UPDATE"
_CANCEL: Final = """
UPDATE messages SET state = CASE state WHEN 'scheduled' THEN 'cancelled' ELSE 'stopped' END, state_reason = $3,
  version = version + 1, update_time = app_now()
WHERE org_id = $1 AND parent = $2 AND state IN ('scheduled', 'released') RETURNING id, state
"""


async def claim(tx: Tx, *, limit: int, lease: float) -> list[Leased]:
    """Due ones of all tenants, tenants in turns, at most `limit`, leased; without those that another replica works on."""
    rows = await tx.fetch(_CLAIM, limit, lease)
    return [Leased(message_of(row), row["tries"], row["expired"]) for row in rows]


async def hold(tx: Tx, messages: Sequence[Message]) -> set[UUID]:
    """Those of the tenant whose lease is unchanged, locked."""
    rows = await tx.fetch(_HOLD, tx.org_id, [each.id for each in messages], [each.version for each in messages])
    return {row["id"] for row in rows}


async def divide(tx: Tx, children: Sequence[tuple[UUID, UUID, str]]) -> None:
    """Insert these messages (group message, id, user), scheduled for its time."""
    parents, ids, users = zip(*children, strict=True) if children else ((), (), ())
    await tx.execute(_DIVIDE, tx.org_id, parents, ids, users)


async def wait(tx: Tx, delays: Sequence[tuple[Message, float]], reason: str) -> None:
    """Try leased ones again after so many seconds each."""
    await tx.execute(
        _WAIT,
        tx.org_id,
        [message.id for message, _ in delays],
        [delay for _, delay in delays],
        reason,
        [message.version for message, _ in delays],
    )


async def send_again(tx: Tx, org_id: str, id: UUID) -> bool:
    """Send a group message again that had no receivers; returns whether it is one."""
    return await tx.fetchval(_AGAIN, id, org_id, GROUP) is not None


async def receivers(tx: Tx, parent: UUID, limit: int) -> list[str]:
    """The users who got a group message, by name."""
    return [row["user_id"] for row in await tx.fetch(_RECEIVERS, tx.org_id, parent, limit)]


async def parts(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, list[Step]]:
    """The state of the notifications of each group message's receivers: one step for all that are equal."""
    found: dict[UUID, list[Step]] = {id: [] for id in ids}
    if ids:
        for row in await tx.fetch(_PARTS, tx.org_id, list(ids)):
            found[row["parent"]].append(Step(State(row["state"]), row["reason"], begun=row["begun"]))
    return found


async def cancel(tx: Tx, parent: UUID, reason: str) -> tuple[list[UUID], list[UUID]]:
    """Cancel the messages of a locked group message: returns the ids of those that were no pages yet, and of those that
    were."""
    await tx.fetch(_LOCK, tx.org_id, parent)
    ended = await tx.fetch(_CANCEL, tx.org_id, parent, reason)
    return (
        [row["id"] for row in ended if row["state"] == Stored.CANCELLED],
        [row["id"] for row in ended if row["state"] == Stored.STOPPED],
    )
