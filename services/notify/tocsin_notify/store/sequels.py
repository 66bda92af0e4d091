"""Messages that were sent before their incident was stopped, and show so only when their provider is told.

A fence stays open until each of its messages was told, so none is forgotten however many processes die meanwhile.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns


@dataclass(frozen=True, slots=True)
class Followed:
    """A message to tell of. `reason`: why its incident was stopped; `upto`: the generation up to which it was."""

    id: UUID
    org_id: str
    contact_method: UUID
    channel: str
    address: str
    secret: bytes | None
    key_id: str
    gone: bool
    """Its contact method was deleted."""
    type: str
    job: bytes
    provider_id: str | None
    follow_tries: int
    upto: int
    reason: str


_LATER_THAN: Final = "n.generation <= f.generation AND n.followed < f.generation"
_CLAIM: Final = f"""
WITH due AS (
  SELECT n.org_id, n.id, f.generation AS upto, f.reason FROM cancel_fences f
  JOIN notifications n ON n.org_id = f.org_id AND n.incident = f.incident AND {_LATER_THAN}
    AND n.state = 'sent' AND n.channel = ANY($1::text[]) AND (n.follow_due IS NULL OR n.follow_due <= app_now())
  WHERE NOT f.followed ORDER BY f.update_time LIMIT $2 FOR UPDATE OF n SKIP LOCKED
), claimed AS (
  UPDATE notifications n SET follow_due = app_now() + make_interval(secs => $3), follow_tries = n.follow_tries + 1
  FROM due d WHERE n.org_id = d.org_id AND n.id = d.id
  RETURNING n.id, n.org_id, n.page_id, n.contact_method, n.channel, n.follow_tries, d.upto, d.reason
)
SELECT {columns(Followed)} FROM (
  SELECT c.*, m.address, m.secret, m.key_id, m.delete_time IS NOT NULL AS gone, p.type, p.job, (
      SELECT a.provider_id FROM attempts a WHERE a.org_id = c.org_id AND a.notification_id = c.id AND a.outcome = 'sent'
      ORDER BY a.number DESC LIMIT 1) AS provider_id
  FROM claimed c
  JOIN contact_methods m ON m.org_id = c.org_id AND m.id = c.contact_method
  JOIN pages p ON p.org_id = c.org_id AND p.id = c.page_id
) AS followed
"""
# A call that is under way may still leave a message behind.
_CLOSE: Final = f"""
UPDATE cancel_fences SET followed = true WHERE ctid IN (
  SELECT f.ctid FROM cancel_fences f WHERE NOT f.followed AND NOT EXISTS (
    SELECT FROM notifications n WHERE n.org_id = f.org_id AND n.incident = f.incident AND {_LATER_THAN}
      AND n.channel = ANY($1::text[]) AND n.state IN ('sending', 'sent'))
  LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""
_NOTE: Final = """
UPDATE notifications n SET followed = coalesce(g.followed, n.followed),
  follow_tries = CASE WHEN g.followed IS NULL THEN n.follow_tries ELSE 0 END,
  follow_due = app_now() + make_interval(secs => g.wait)
FROM unnest($1::text[], $2::uuid[], $3::int[], $4::float8[]) AS g (org_id, id, followed, wait)
WHERE n.org_id = g.org_id AND n.id = g.id
"""


@dataclass(frozen=True, slots=True)
class Noted:
    """What became of a message: it shows what happened up to a generation, or is tried again after `wait` seconds."""

    org_id: str
    id: UUID
    followed: int | None = None
    wait: float | None = None


async def claim(tx: Tx, channels: Collection[str], limit: int, lease: float) -> list[Followed]:
    """Messages to tell of, oldest fence first. `lease`: seconds after which another process may take one that stays untold."""
    return [Followed(*row) for row in await tx.fetch(_CLAIM, list(channels), limit, lease)]


async def close_fences(tx: Tx, channels: Collection[str]) -> None:
    """Nothing is left to tell behind these."""
    await tx.execute(_CLOSE, list(channels))


async def note(tx: Tx, noted: Sequence[Noted]) -> None:
    """What became of the messages of one claim."""
    rows = sorted(noted, key=lambda each: each.id)
    await tx.execute(
        _NOTE,
        [each.org_id for each in rows],
        [each.id for each in rows],
        [each.followed for each in rows],
        [each.wait for each in rows],
    )
