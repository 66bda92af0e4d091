"""The paces of people, and the pages that are sent to them together; always in sets."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.bundling import Pace
from tocsin_notify.store.fair_claims import fairly_taken
from tocsin_notify.store.named import Named, in_columns
from tocsin_notify.store.pages.fences import reason_of, stops_in_bundle
from tocsin_notify.store.pages.pages import CANCELS

User = tuple[str, str]
"""Tenant and `users/{user}`."""

# Locked until the transaction ends, in one order: submits of two replicas that page the same people wait for each
# other.
_PACES: Final = """
INSERT INTO paces AS p (org_id, user_id) SELECT * FROM unnest($1::text[], $2::text[]) ORDER BY 1, 2
ON CONFLICT (org_id, user_id) DO UPDATE SET update_time = app_now()
RETURNING p.org_id, p.user_id, p.alone, p.storm_until, p.bundle, p.bundle_due, p.bundles
"""
# The same as `domain.bundling.place`, for pages that are all sent alone, in one statement: in calm times no other one
# is needed. It does nothing if one of these people has no row yet: rows are locked in one order only, here and by
# `_PACES`.
_TAKE: Final = """
WITH given AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::float8[]) AS g(org_id, user_id, pages, most, span)
), held AS MATERIALIZED (
  SELECT p.*, g.pages, g.most,
    ARRAY(SELECT at FROM unnest(p.alone) AS at WHERE at > app_now() - make_interval(secs => g.span)) AS lately
  FROM given g JOIN paces p ON p.org_id = g.org_id AND p.user_id = g.user_id
  WHERE (SELECT count(*) FROM given) = (
    SELECT count(*) FROM given o WHERE EXISTS (SELECT FROM paces k WHERE k.org_id = o.org_id AND k.user_id = o.user_id))
  ORDER BY p.org_id, p.user_id FOR UPDATE OF p
), fitting AS (
  UPDATE paces p SET alone = h.lately || array_fill(app_now(), ARRAY[h.pages]), storm_until = NULL, bundles = 0,
    update_time = app_now()
  FROM held h
  WHERE p.org_id = h.org_id AND p.user_id = h.user_id AND h.bundle IS NULL
    AND (h.storm_until IS NULL OR h.storm_until <= app_now()) AND cardinality(h.lately) + h.pages <= h.most
  RETURNING p.org_id, p.user_id
)
SELECT h.org_id, h.user_id, h.alone, h.storm_until, h.bundle, h.bundle_due, h.bundles, f.user_id IS NOT NULL AS fits
FROM held h LEFT JOIN fitting f ON f.org_id = h.org_id AND f.user_id = h.user_id
"""
_KEEP: Final = """
UPDATE paces p SET alone = g.alone::timestamptz[], storm_until = g.storm_until, bundle = g.bundle, bundle_due = g.bundle_due,
  bundles = g.bundles
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[], $6::timestamptz[], $7::int[])
  AS g(org_id, user_id, alone, storm_until, bundle, bundle_due, bundles)
WHERE p.org_id = g.org_id AND p.user_id = g.user_id
"""
_END: Final = "UPDATE paces SET bundle_due = app_now() WHERE org_id = $1 AND user_id = $2 AND bundle IS NOT NULL"
_JOIN: Final = """
INSERT INTO bundle_pages (org_id, bundle, page_id, incident, generation)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[])
"""
# Waits for submits that are adding pages to one of these: a later statement reads the members, and sees those pages.
# Locked in the order in which submits lock them. The order is one value, since an index in this order would read all
# people.
_TAKEN: Final = fairly_taken(
    "paces",
    key="bundle",
    time="bundle_due",
    living="bundle IS NOT NULL",
    due="bundle_due <= app_now()",
    passing_over=False,
)
_CLAIM: Final = f"""
WITH RECURSIVE {_TAKEN}, due AS (
  SELECT p.org_id, p.user_id, p.bundle FROM paces p
  WHERE p.bundle = ANY(ARRAY(SELECT bundle FROM taken)) AND p.bundle IS NOT NULL AND (p.bundle_due <= app_now()) IS TRUE
  ORDER BY (p.org_id, p.user_id) FOR UPDATE
)
UPDATE paces p SET bundle = NULL, bundle_due = NULL FROM due d WHERE p.org_id = d.org_id AND p.user_id = d.user_id
RETURNING d.org_id, d.user_id, d.bundle
"""
# Moves the oldest pages of those that are too large to the id `part`. The other pages stay, and are due again at once.
# `paces` or `quiet_bundles` still names their bundle, so that cancels and later pages find it. Locks the notifications
# in the order in which a cancel does.
_PART: Final = """
WITH large AS MATERIALIZED (
  SELECT g.org_id, g.user_id, g.bundle, g.part, g.waited
  FROM unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[], $7::boolean[]) AS g(org_id, user_id, bundle, part, waited)
  WHERE EXISTS (SELECT FROM bundle_pages b WHERE b.org_id = g.org_id AND b.bundle = g.bundle OFFSET $5)
), oldest AS MATERIALIZED (
  SELECT l.org_id, l.part, o.id FROM large l CROSS JOIN LATERAL (
    SELECT p.id FROM bundle_pages b JOIN pages p ON p.org_id = b.org_id AND p.id = b.page_id
    WHERE b.org_id = l.org_id AND b.bundle = l.bundle
    ORDER BY coalesce(p.planned_time, p.create_time), p.id LIMIT $5
  ) o
), moved AS (
  UPDATE bundle_pages b SET bundle = o.part FROM oldest o WHERE b.org_id = o.org_id AND b.page_id = o.id
), mine AS (
  SELECT n.id, o.part FROM oldest o JOIN notifications n ON n.org_id = o.org_id AND n.page_id = o.id AND n.state = 'bundled'
  ORDER BY n.id FOR UPDATE OF n
), told AS (
  UPDATE notifications n SET state_reason = replace($6, '{bundle}', m.part::text) FROM mine m WHERE n.id = m.id
), again AS (
  UPDATE paces p SET bundle = l.bundle, bundle_due = app_now() FROM large l
  WHERE p.org_id = l.org_id AND p.user_id = l.user_id AND NOT l.waited
)
SELECT org_id, user_id, bundle, part FROM large
"""
_MEMBERS: Final = f"""
SELECT b.bundle, p.id, p.user_id, p.incident, p.generation, p.type, p.job,
  coalesce(p.planned_time, p.create_time) AS since, p.urgency, {reason_of("f", "p")} AS stopped
FROM unnest($1::text[], $2::uuid[]) AS g(org_id, bundle)
JOIN bundle_pages b ON b.org_id = g.org_id AND b.bundle = g.bundle
JOIN pages p ON p.org_id = b.org_id AND p.id = b.page_id
LEFT JOIN cancel_fences f ON {stops_in_bundle("f", "b")}
ORDER BY since, p.id
"""
# The steps have the times that their person's rules give now: (method, step) is unique within a page.
_RELEASE: Final = """
WITH mine AS (
  SELECT n.id, coalesce(d.delay, 0) AS delay, g.reason
  FROM unnest($1::text[], $2::uuid[], $7::text[]) AS g(org_id, page_id, reason)
  JOIN notifications n ON n.org_id = g.org_id AND n.page_id = g.page_id AND n.state = 'bundled'
  LEFT JOIN unnest($3::uuid[], $4::uuid[], $5::int[], $6::float8[]) AS d(page_id, method, step, delay)
    ON d.page_id = n.page_id AND d.method = n.contact_method AND d.step = n.step
  ORDER BY n.id FOR UPDATE OF n
), left_alone AS (
  DELETE FROM bundle_pages b USING unnest($1::text[], $2::uuid[]) AS g(org_id, page_id)
  WHERE b.org_id = g.org_id AND b.page_id = g.page_id
)
UPDATE notifications n SET state = 'pending', state_reason = m.reason, due_time = app_now() + make_interval(secs => m.delay)
FROM mine m WHERE n.id = m.id RETURNING n.id, m.delay, n.priority
"""
_TOUCHED: Final = f"""
SELECT DISTINCT b.org_id, b.bundle FROM unnest($1::text[], $2::uuid[]) AS g(org_id, incident)
JOIN bundle_pages b ON b.org_id = g.org_id AND b.incident = g.incident
JOIN cancel_fences f ON {stops_in_bundle("f", "b")}
"""
_HOLD: Final = f"""{CANCELS}
SELECT FROM unnest($1::text[], $2::uuid[]) AS g(org_id, bundle)
JOIN paces p ON p.org_id = g.org_id AND p.bundle = g.bundle ORDER BY p.org_id, p.user_id FOR UPDATE OF p
"""
_HOLD_QUIET: Final = f"""{CANCELS}
SELECT FROM unnest($1::text[], $2::uuid[]) AS g(org_id, bundle)
JOIN quiet_bundles q ON q.org_id = g.org_id AND q.bundle = g.bundle ORDER BY q.org_id, q.user_id FOR UPDATE OF q
"""
_CANCEL: Final = f"""{CANCELS}
WITH mine AS (
  SELECT n.id, {reason_of("f", "n")} AS reason FROM unnest($1::text[], $2::uuid[]) AS g(org_id, bundle)
  JOIN bundle_pages b ON b.org_id = g.org_id AND b.bundle = g.bundle
  JOIN cancel_fences f ON {stops_in_bundle("f", "b")}
  JOIN notifications n ON n.org_id = b.org_id AND n.page_id = b.page_id AND n.state = 'bundled'
  WHERE NOT EXISTS (SELECT FROM pages p WHERE p.org_id = b.org_id AND p.id = b.bundle)
  ORDER BY n.id FOR UPDATE OF n
)
UPDATE notifications n SET state = 'cancelled', state_reason = m.reason FROM mine m WHERE n.id = m.id RETURNING n.id
"""
_SENT: Final = f"""
SELECT * FROM (
  SELECT g.org_id, g.bundle, NOT EXISTS (
    SELECT FROM bundle_pages b WHERE b.org_id = g.org_id AND b.bundle = g.bundle AND NOT EXISTS (
      SELECT FROM cancel_fences f WHERE {stops_in_bundle("f", "b")})) AS over
  FROM unnest($1::text[], $2::uuid[]) AS g(org_id, bundle)
  JOIN pages p ON p.org_id = g.org_id AND p.id = g.bundle
) AS sent
WHERE over OR EXISTS (
  SELECT FROM notifications n
  WHERE n.org_id = sent.org_id AND n.page_id = sent.bundle AND n.state IN ('pending', 'sending'))
"""
_INCIDENTS: Final = """
SELECT DISTINCT b.org_id, b.incident FROM unnest($1::text[], $2::uuid[]) AS g(org_id, bundle)
JOIN bundle_pages b ON b.org_id = g.org_id AND b.bundle = g.bundle
"""


@dataclass(frozen=True, slots=True)
class BundledPage:
    """One page of a bundle. `stopped`: why its incident was stopped meanwhile, if it was."""

    bundle: UUID
    id: UUID
    user_id: str
    incident: UUID
    generation: int
    type: str
    job: bytes
    since: datetime
    urgency: str
    stopped: str | None


@dataclass(frozen=True, slots=True)
class StoppedIn:
    """What `stop` did and found. `cancelled`: notifications. `over`: bundles that were sent and have no open page left.
    `told`: other bundles that were made into a message, of which calls may still begin."""

    cancelled: list[UUID]
    over: list[Named]
    told: list[Named]


@dataclass(frozen=True, slots=True)
class Due:
    """A bundle to be sent. `waited`: it is a row of `quiet_bundles`."""

    org_id: str
    user_id: str
    bundle: UUID
    waited: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """A page that goes into a bundle."""

    org_id: str
    bundle: UUID
    page_id: UUID
    incident: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class Alone:
    """A page that is taken out of its bundle. `steps`: method, step and delay in seconds of each that its person's
    rules give it now."""

    org_id: str
    page_id: UUID
    reason: str
    steps: Sequence[tuple[UUID, int, float]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A number of `pages` for one person, whose budget is `most` within `window` seconds."""

    pages: int
    most: int
    window: float


async def take(tx: Tx, asked: Mapping[User, Asked]) -> dict[User, Pace]:
    """Count the pages of people in whose budget all of them fit, so that they are sent alone; returns the pace of each
    other person.

    Locked until the transaction ends.
    """
    rows = await tx.fetch(
        _TAKE,
        [org_id for org_id, _ in asked],
        [user for _, user in asked],
        [each.pages for each in asked.values()],
        [each.most for each in asked.values()],
        [each.window for each in asked.values()],
    )
    known = {(row["org_id"], row["user_id"]) for row in rows}
    held = {(row["org_id"], row["user_id"]): _pace(row) for row in rows if not row["fits"]}
    fresh = asked.keys() - known
    return held | await paces(tx, fresh) if fresh else held


async def paces(tx: Tx, users: Collection[User]) -> dict[User, Pace]:
    """The paces of these people, locked until the transaction ends."""
    rows = await tx.fetch(_PACES, [org_id for org_id, _ in users], [user for _, user in users])
    return {(row["org_id"], row["user_id"]): _pace(row) for row in rows}


def _pace(row: asyncpg.Record) -> Pace:
    return Pace(tuple(row["alone"]), row["storm_until"], row["bundle"], row["bundle_due"], row["bundles"])


async def keep(tx: Tx, changed: Mapping[User, Pace]) -> None:
    """Write their new paces."""
    await tx.execute(
        _KEEP,
        [org_id for org_id, _ in changed],
        [user for _, user in changed],
        ["{" + ",".join(at.isoformat() for at in pace.alone) + "}" for pace in changed.values()],
        [pace.storm_until for pace in changed.values()],
        [pace.bundle for pace in changed.values()],
        [pace.bundle_due for pace in changed.values()],
        [pace.bundles for pace in changed.values()],
    )


async def join(tx: Tx, joined: Sequence[Joined]) -> None:
    """Put these pages into their bundles."""
    await tx.execute(
        _JOIN,
        [each.org_id for each in joined],
        [each.bundle for each in joined],
        [each.page_id for each in joined],
        [each.incident for each in joined],
        [each.generation for each in joined],
    )


async def claim(tx: Tx, limit: int) -> list[Due]:
    """Due bundles, closed by it. Later pages begin another bundle."""
    return [Due(row["org_id"], row["user_id"], row["bundle"]) for row in await tx.fetch(_CLAIM, limit)]


async def end(tx: Tx, user: str) -> None:
    """Make the bundle of this user of the tenant due now."""
    await tx.execute(_END, tx.org_id, user)


async def part(tx: Tx, due: Sequence[Due], parts: Sequence[UUID], most: int, reason: str) -> dict[UUID, UUID]:
    """For each of these with more than `most` pages, move the oldest `most` into a bundle of their own, under its id in
    `parts`.

    The rest keeps its id and is due at once. Returns the new id of each bundle that was too large. Run it in the
    transaction that claimed them. `reason`: the text on the notifications of the moved pages; `{bundle}` in it stands
    for the new id.
    """
    rows = await tx.fetch(
        _PART,
        [each.org_id for each in due],
        [each.user_id for each in due],
        [each.bundle for each in due],
        list(parts),
        most,
        reason,
        [each.waited for each in due],
    )
    return {row["bundle"]: row["part"] for row in rows}


async def members(tx: Tx, bundles: Collection[Named]) -> dict[UUID, list[BundledPage]]:
    """The pages of each of these, the oldest first."""
    found: dict[UUID, list[BundledPage]] = {id: [] for _, id in bundles}
    for row in await tx.fetch(_MEMBERS, *in_columns(bundles)):
        found[row["bundle"]].append(BundledPage(*row))
    return found


async def incidents(tx: Tx, bundles: Collection[Named]) -> list[Named]:
    """Those of the pages in these."""
    return [(row["org_id"], row["incident"]) for row in await tx.fetch(_INCIDENTS, *in_columns(bundles))]


async def release(tx: Tx, alone: Sequence[Alone]) -> list[tuple[UUID, float, int]]:
    """Send these alone; returns id, delay in seconds and priority of each notification that is now pending.

    Run it in the transaction that claimed their bundles: a cancel that waits for it then finds these notifications like
    all others.
    """
    steps = [(each.page_id, method, step, delay) for each in alone for method, step, delay in each.steps]
    rows = await tx.fetch(
        _RELEASE,
        [each.org_id for each in alone],
        [each.page_id for each in alone],
        [page for page, _, _, _ in steps],
        [method for _, method, _, _ in steps],
        [step for _, _, step, _ in steps],
        [delay for _, _, _, delay in steps],
        [each.reason for each in alone],
    )
    return [(row["id"], row["delay"], row["priority"]) for row in rows]


async def touched(tx: Tx, incidents: Collection[Named]) -> list[Named]:
    """The bundles with pages of these incidents that a fence stops."""
    return [(row["org_id"], row["bundle"]) for row in await tx.fetch(_TOUCHED, *in_columns(incidents))]


async def stop(tx: Tx, bundles: Collection[Named], incidents: Collection[Named]) -> StoppedIn:
    """Cancel pages that a fence stops, in unsent bundles of these incidents. `bundles`: those that
    `pages.raise_fences` found.

    Run it after the fences' commit: of two cancels that stop the last pages of a bundle, the later one sees both
    fences.
    """
    await tx.execute(_HOLD, *in_columns(bundles))
    await tx.execute(_HOLD_QUIET, *in_columns(bundles))
    # A claim that this waited for may have divided them: pages of these incidents may be in another bundle now.
    bundles = sorted({*bundles, *await touched(tx, incidents)})
    cancelled = [row["id"] for row in await tx.fetch(_CANCEL, *in_columns(bundles))]
    sent = await tx.fetch(_SENT, *in_columns(bundles))
    over, told = ([(row["org_id"], row["bundle"]) for row in sent if row["over"] is each] for each in (True, False))
    return StoppedIn(cancelled, over, told)
