"""Sent messages whose incident was stopped since: they show it only after a call to their provider.

A fence stays open until each of its messages was updated, so none is forgotten, even if processes die meanwhile.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.page import CRITICAL, SLOW
from tocsin_notify.store.contacts.languages import language_of
from tocsin_notify.store.delivery.rows import NotificationHead
from tocsin_notify.store.named import Named, in_columns


@dataclass(frozen=True, slots=True)
class Followed(NotificationHead):
    """A message to update. `reason`: why its incident was stopped; `upto`: the last generation that was stopped."""

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
    language: str | None
    """That its user has chosen."""


_BEHIND: Final = "n.generation <= f.generation AND n.followed < f.generation"
# A provider may have accepted it although it was cancelled: its answer came after its process had lost the row. (A
# scalar subquery: with EXISTS beside an OR, the planner would hash the subquery and read the whole table for it.)
_LEFT_A_MESSAGE: Final = """(n.state = 'sent' OR n.state = 'cancelled' AND (
    SELECT true FROM attempts a WHERE a.org_id = n.org_id AND a.notification_id = n.id AND a.outcome = 'sent' LIMIT 1))"""
# A call that is under way may still leave a message. An attempt without an answer for this long died with its process.
_MAY_LEAVE_ONE: Final = f"""(n.state = 'sending' OR {_LEFT_A_MESSAGE} OR n.state = 'cancelled' AND (
    SELECT true FROM attempts a WHERE a.org_id = n.org_id AND a.notification_id = n.id AND a.outcome = 'started'
      AND a.start_time > app_now() - interval '10 minutes' LIMIT 1))"""
_DUE: Final = f"{_BEHIND} AND {_LEFT_A_MESSAGE} AND (n.follow_due IS NULL OR n.follow_due <= app_now())"
# One row of every tenant before the second of any, in each channel; tenants are found by jumping through the index of
# open fences. Messages that ring are first, then those that were not tried yet, then those of the oldest fence.
_FIND: Final = f"""
WITH RECURSIVE orgs(org_id, n) AS (
  (SELECT org_id, 1 FROM cancel_fences WHERE NOT followed AND org_id > $3 ORDER BY org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT x.org_id FROM cancel_fences x WHERE NOT x.followed AND x.org_id > o.org_id ORDER BY x.org_id LIMIT 1), o.n + 1
  FROM orgs o WHERE o.org_id IS NOT NULL AND o.n < $4
), found AS (
  SELECT o.org_id AS tenant, o.n, r.channel, r.room, d.id, d.turn FROM orgs o
  CROSS JOIN unnest($1::text[], $2::int[]) AS r(channel, room)
  LEFT JOIN LATERAL (
    SELECT w.id, row_number() OVER (ORDER BY w.waits, w.follow_tries, w.update_time, w.id) AS turn FROM (
      SELECT n.id, n.priority NOT IN ({CRITICAL}, {SLOW[CRITICAL]}) AS waits, n.follow_tries, f.update_time
      FROM cancel_fences f
      JOIN notifications n ON n.org_id = f.org_id AND n.incident = f.incident AND n.channel = r.channel AND {_DUE}
      WHERE f.org_id = o.org_id AND NOT f.followed
      ORDER BY waits, n.follow_tries, f.update_time, n.id LIMIT r.room
    ) AS w
  ) d ON true
  WHERE o.org_id IS NOT NULL
), placed AS (
  SELECT *, row_number() OVER (PARTITION BY channel ORDER BY turn, n) AS place FROM found WHERE id IS NOT NULL
)
SELECT tenant, n, id FROM placed WHERE place <= room
UNION ALL SELECT max(org_id), max(n), NULL FROM orgs WHERE org_id IS NOT NULL
"""
_CLAIM: Final = f"""
WITH due AS (
  SELECT n.id, f.generation AS upto, f.reason FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id)
  JOIN notifications n ON n.org_id = g.org_id AND n.id = g.id
  JOIN cancel_fences f ON f.org_id = n.org_id AND f.incident = n.incident AND NOT f.followed AND {_DUE}
  ORDER BY n.id FOR UPDATE OF n SKIP LOCKED
), claimed AS (
  UPDATE notifications n SET follow_due = app_now() + make_interval(secs => $3), follow_tries = n.follow_tries + 1
  FROM due d WHERE n.id = d.id
  RETURNING n.id, n.org_id, n.page_id, n.user_id, n.incident, n.generation, n.priority, n.contact_method, n.channel,
    n.follow_tries, d.upto, d.reason
)
SELECT {columns(Followed)} FROM (
  SELECT c.*, coalesce(m.address, '') AS address, m.secret, coalesce(m.key_id, '') AS key_id,
    m.id IS NULL OR m.delete_time IS NOT NULL AS gone, p.type, p.job, (
      SELECT a.provider_id FROM attempts a WHERE a.org_id = c.org_id AND a.notification_id = c.id AND a.outcome = 'sent'
      ORDER BY a.number DESC LIMIT 1) AS provider_id, {language_of("c")}
  FROM claimed c
  LEFT JOIN contact_methods m ON m.org_id = c.org_id AND m.id = c.contact_method
  JOIN pages p ON p.org_id = c.org_id AND p.id = c.page_id
) AS followed
"""
# Evaluated for each fence. With NOT EXISTS the planner may join, and read all notifications.
_NOTHING_LEFT: Final = f"""NOT f.followed AND (
    SELECT true FROM notifications n WHERE n.org_id = f.org_id AND n.incident = f.incident AND {_BEHIND}
      AND n.channel = ANY($1::text[]) AND {_MAY_LEAVE_ONE} LIMIT 1) IS NULL"""
_FINISHED: Final = f"""
SELECT f.org_id, f.incident FROM cancel_fences f WHERE {_NOTHING_LEFT} ORDER BY f.update_time LIMIT $2
"""
_CLOSE: Final = f"""
UPDATE cancel_fences SET followed = true WHERE ctid IN (
  SELECT f.ctid FROM unnest($2::text[], $3::uuid[]) AS g(org_id, incident)
  JOIN cancel_fences f ON f.org_id = g.org_id AND f.incident = g.incident
  WHERE {_NOTHING_LEFT} FOR UPDATE OF f SKIP LOCKED)
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
    """The result for a message: it shows what happened up to a generation, or is tried again after `wait` seconds."""

    org_id: str
    id: UUID
    followed: int | None = None
    wait: float | None = None


async def find(tx: Tx, rooms: Mapping[str, int], *, after_org: str, orgs: int) -> tuple[list[Named], str]:
    """Messages to update, found without a lock: for each channel at most as many as it has slots, in fair order of
    tenants.

    Reads `orgs` tenants after `after_org`; also returns the last of these, empty if there are no more.
    """
    rows = await tx.fetch(_FIND, list(rooms), list(rooms.values()), after_org, orgs)
    last = next((row["tenant"] for row in rows if row["id"] is None and (row["n"] or 0) >= orgs), "")
    return [(row["tenant"], row["id"]) for row in rows if row["id"] is not None], last


async def claim(tx: Tx, named: Sequence[Named], lease: float) -> list[Followed]:
    """Those of these that are still to be updated. `lease`: seconds after which another process may take one that was
    not updated."""
    return [Followed(*row) for row in await tx.fetch(_CLAIM, *in_columns(named), lease)]


async def finished(tx: Tx, channels: Collection[str], limit: int) -> list[Named]:
    """Incidents (with their tenants) that have no committed message left to update."""
    return [(row["org_id"], row["incident"]) for row in await tx.fetch(_FINISHED, list(channels), limit)]


async def close_fences(tx: Tx, channels: Collection[str], incidents: Collection[Named]) -> int:
    """Close those of these fences that have no message left; returns how many.

    Run it while the gate of these incidents is shut (`gate.shut`): a message that a claim commits after this
    statement's snapshot would never be updated.
    """
    return int((await tx.execute(_CLOSE, list(channels), *in_columns(incidents))).rpartition(" ")[2])


async def note(tx: Tx, noted: Sequence[Noted]) -> None:
    """Write the results for claimed messages."""
    rows = sorted(noted, key=lambda each: each.id)
    await tx.execute(
        _NOTE,
        [each.org_id for each in rows],
        [each.id for each in rows],
        [each.followed for each in rows],
        [each.wait for each in rows],
    )
