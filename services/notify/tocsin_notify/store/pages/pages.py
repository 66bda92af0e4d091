"""Pages, and the fences that stop them."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.row_arrays import RowArrays

from tocsin_notify.domain.page import Channel, Kind, Page, Urgency
from tocsin_notify.store.pages.fences import reason_of, stopped_up_to, stops, stops_in_bundle
from tocsin_notify.store.queues import PAUSED

_GIVEN: Final = RowArrays(
    1,
    "id uuid, org_id text, user_id text, incident uuid, type text, urgency text, priority smallint, level int, repeat int,"
    "generation int, planned_time timestamptz, channel_override text, only_method uuid, job bytea, expire_time timestamptz,"
    "outlasts boolean",
)


def storing(then: str) -> str:
    """A statement that stores pages, given by `columns_of`, and continues with the given text. `stored`: those that are
    new."""
    # In the order of ids, so that two submits of the same pages wait for each other and do not deadlock.
    return f"""
WITH given AS (
  SELECT * FROM {_GIVEN.sql} AS g
), stored AS (
  INSERT INTO pages (id, org_id, user_id, incident, type, urgency, priority, level, repeat, generation, planned_time,
    channel_override, only_method, job, expire_time, outlasts)
  SELECT * FROM given ORDER BY id
  ON CONFLICT (id) DO NOTHING
  RETURNING id, org_id, user_id, incident, generation, outlasts
)
{then}"""


FENCED: Final = f"""
FROM stored s LEFT JOIN cancel_fences f ON f.org_id = s.org_id AND f.incident = s.incident AND {stops("f", "s")}
"""
_INSERT: Final = storing(
    f"SELECT s.id, {reason_of('f', 's')} AS fence_reason, app_now() AS now, {PAUSED} AS paused {FENCED}"
)

_FENCE_OF: Final = f"""
SELECT {reason_of("f", "p")}
FROM cancel_fences f, (SELECT $3::int AS generation, $4::boolean AS outlasts, $5::text AS user_id) AS p
WHERE f.org_id = $1 AND f.incident = $2 AND {stops("f", "p")}
"""

_KNOWN: Final = f"""
SELECT p.org_id, p.id, coalesce({stopped_up_to("f", "p")}, 0) AS stopped FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id)
JOIN pages p ON p.id = g.id AND p.org_id IS NOT DISTINCT FROM g.org_id
LEFT JOIN cancel_fences f ON f.org_id = p.org_id AND f.incident = p.incident AND {stops("f", "p")}
"""

CANCELS: Final = "/* tocsin cancel */"
"""Marks the statements in which a cancel may wait for another session (`store.delivery.gatekeeper`)."""

NOTHING: Final = -1
"""A generation before all others."""
_FENCE: Final = f"""{CANCELS}
WITH raised AS (
  INSERT INTO cancel_fences AS f (org_id, incident, generation, reason, final_generation, own, followed)
  SELECT *, g.generation = {NOTHING}
  FROM unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::int[], $6::jsonb[])
    AS g(org_id, incident, generation, reason, final_generation, own) ORDER BY 1, 2
  ON CONFLICT (org_id, incident) DO UPDATE SET
    reason = CASE WHEN excluded.generation > f.generation THEN excluded.reason ELSE f.reason END,
    generation = greatest(f.generation, excluded.generation),
    final_generation = greatest(coalesce(f.final_generation, f.generation), excluded.final_generation),
    own = CASE WHEN excluded.own = '{{}}' THEN f.own ELSE (
      SELECT jsonb_object_agg(user_id, stop) FROM (
        SELECT DISTINCT ON (key) key AS user_id, value AS stop
        FROM (SELECT * FROM jsonb_each(f.own) UNION ALL SELECT * FROM jsonb_each(excluded.own)) AS stops
        ORDER BY key, (value->>'generation')::int DESC) AS newest) END,
    followed = f.followed AND excluded.generation <= f.generation,
    update_time = app_now()
  RETURNING f.org_id, f.incident, f.generation, f.own
)
SELECT DISTINCT b.org_id, b.bundle FROM raised f
JOIN bundle_pages b ON {stops_in_bundle("f", "b")}
"""

# FOR NO KEY UPDATE: transactions that give up notifications of one page run one after the other, while inserts may go
# on.
_LOCK: Final = """
SELECT p.id, p.type, p.urgency, p.channel_override, p.only_method, p.outlasts, p.job
FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id)
JOIN pages p ON p.id = g.id AND p.org_id IS NOT DISTINCT FROM g.org_id ORDER BY p.id FOR NO KEY UPDATE OF p
"""
_LATEST_ABOUT: Final = """
SELECT p.id, p.job FROM notifications n JOIN pages p ON p.org_id = n.org_id AND p.id = n.page_id
WHERE n.org_id = $1 AND n.incident = $2 ORDER BY p.type = 'message', n.create_time DESC, n.id DESC LIMIT 1
"""
_LOCK_FREE: Final = f"{_LOCK} SKIP LOCKED"


@dataclass(frozen=True, slots=True)
class NewPage:
    """A job as it is stored and planned."""

    id: UUID
    org_id: str
    user_id: str
    incident: UUID | None
    page: Page
    priority: int
    generation: int
    planned_time: datetime | None
    job: NotificationJob
    expire_time: datetime | None = None
    """No attempt begins after this time; None: there is no limit."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The result for pages that were stored."""

    fences: dict[UUID, str | None]
    """The new pages' ids, each with the reason why it is stopped already, if it is."""
    now: datetime | None
    """The database's clock; None when no page was new."""
    paused: bool
    """The queue is paused."""


Held = Mapping[UUID, tuple[Page, bytes]]
"""Pages that a transaction holds, each with its job."""


@dataclass(frozen=True, slots=True, order=True)
class OwnStop:
    """Pages of one user up to this generation are stopped, because they have passed the incident on."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fence:
    """Pages of this incident up to this generation are stopped; `NOTHING`: only those of the users in `own`."""

    org_id: str
    incident: UUID
    generation: int
    reason: str
    final_generation: int
    """Up to which generation it also stops those that outlast an acknowledge; `NOTHING`: it does not stop them."""
    own: Mapping[str, OwnStop] = field(default_factory=dict)
    """By `users/{user}`."""

    def together(self, other: "Fence") -> "Fence":
        """One fence that stops what these two of one incident stop."""
        higher = other if self.generation < other.generation else self
        users = {*self.own, *other.own}
        own = {user: max(each for each in (self.own.get(user), other.own.get(user)) if each) for user in users}
        return replace(higher, final_generation=max(self.final_generation, other.final_generation), own=own)


async def insert(tx: Tx, pages: Sequence[NewPage]) -> Stored:
    """Store the pages that are not stored yet, and return which those are."""
    return stored(await tx.fetch(_INSERT, *columns_of(pages)))


def columns_of(pages: Sequence[NewPage]) -> Sequence[object]:
    """The values for `STORING`."""
    return _GIVEN.parameters(
        [
            (
                page.id,
                page.org_id,
                page.user_id,
                page.incident,
                page.page.kind,
                page.page.urgency,
                page.priority,
                page.job.level,
                page.job.repeat,
                page.generation,
                page.planned_time,
                page.page.channel_override,
                page.page.only_method,
                page.job.SerializeToString(),
                page.expire_time,
                page.page.outlasts,
            )
            for page in pages
        ]
    )


def stored(rows: Sequence[asyncpg.Record]) -> Stored:
    """From rows with id, fence_reason, now and paused of the new ones."""
    return Stored(
        {row["id"]: row["fence_reason"] for row in rows},
        rows[0]["now"] if rows else None,
        bool(rows and rows[0]["paused"]),
    )


async def latest_about(tx: Tx, incident: UUID) -> tuple[UUID, bytes] | None:
    """The page of the newest notification about an incident of the tenant, with its job; a reminder only if there is no
    other."""
    row = await tx.fetchrow(_LATEST_ABOUT, tx.org_id, incident)
    return None if row is None else (row["id"], row["job"])


async def lock(tx: Tx, pages: Collection[tuple[str, UUID]], *, only_free: bool = False) -> Held:
    """The pages (tenant, id) with their jobs, locked against other transactions that give up their notifications.

    A transaction that holds pages must not wait for further ones: it would deadlock with a transaction that holds those
    and waits for these. `only_free`: without those that another session holds at this moment.
    """
    if not pages:
        return {}
    statement = _LOCK_FREE if only_free else _LOCK
    rows = await tx.fetch(statement, [org_id for org_id, _ in pages], [id for _, id in pages])
    return {row["id"]: (_page(row), row["job"]) for row in rows}


async def expire(tx: Tx, ids: Sequence[UUID]) -> None:
    """From now on no attempt for these pages begins."""
    await tx.execute(
        "UPDATE pages SET expire_time = app_now() WHERE org_id = $1 AND id = ANY($2::uuid[])", tx.org_id, list(ids)
    )


async def ensure(tx: Tx, page: NewPage) -> str | None:
    """Store the page unless it is stored; returns the reason why it is stopped, if it is."""
    await insert(tx, [page])
    reason: str | None = await tx.fetchval(
        _FENCE_OF,
        page.org_id,
        page.incident,
        page.generation,
        page.page.outlasts,
        page.user_id,
    )
    return reason


def _page(row: asyncpg.Record) -> Page:
    """A page from a row that has its columns."""
    override = row["channel_override"]
    channel = Channel(override) if override else None
    return Page(Kind(row["type"]), Urgency(row["urgency"]), channel, row["only_method"], row["outlasts"])


async def raise_fences(tx: Tx, fences: Sequence[Fence]) -> list[tuple[str, UUID]]:
    """From now on no page of these generations is sent. No generation in a fence ever decreases.

    Returns the bundles (tenant, id) with pages that the fences stop.
    """
    rows = await tx.fetch(
        _FENCE,
        [fence.org_id for fence in fences],
        [fence.incident for fence in fences],
        [fence.generation for fence in fences],
        [fence.reason for fence in fences],
        [fence.final_generation for fence in fences],
        [_own_json(fence) for fence in fences],
    )
    return [(row["org_id"], row["bundle"]) for row in rows]


def _own_json(fence: Fence) -> str:
    return json.dumps({user: {"generation": own.generation, "reason": own.reason} for user, own in fence.own.items()})


async def known(tx: Tx, claims: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], int]:
    """Those of the pages (tenant, id) that exist, in whatever state. For each the generation up to which pages of its incident
    are stopped for its user, if it is one of them, otherwise 0.
    """
    rows = await tx.fetch(_KNOWN, [org_id for org_id, _ in claims], [id for _, id in claims])
    return {(row["org_id"], row["id"]): row["stopped"] for row in rows}
