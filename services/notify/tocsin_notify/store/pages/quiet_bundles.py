"""The bundles in which pages of low urgency wait for the end of their person's quiet hours. Their pages are in `bundle_pages`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.store.fair_claims import fairly_taken
from tocsin_notify.store.pages.bundles import Due

User = tuple[str, str]
"""Tenant and `users/{user}`."""

# Locked until the transaction ends, in one order. Its sender deletes the row: a submit that waits for it then begins
# another bundle.
_OPEN: Final = """
INSERT INTO quiet_bundles AS q (org_id, user_id, bundle, due_time)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::timestamptz[]) ORDER BY 1, 2
ON CONFLICT (org_id, user_id) DO UPDATE SET due_time = q.due_time
RETURNING org_id, user_id, bundle
"""
# Waits for submits that are adding pages to one of these: a later statement reads the pages, and sees those. The order
# is one value, since an index in this order would read all people.
_TAKEN: Final = fairly_taken(
    "quiet_bundles", key="bundle", time="due_time", living="true", due="due_time <= app_now()", passing_over=False
)
_DUE: Final = f"""
WITH RECURSIVE {_TAKEN}
SELECT q.org_id, q.user_id, q.bundle FROM quiet_bundles q
WHERE q.bundle = ANY(ARRAY(SELECT bundle FROM taken)) AND (q.due_time <= app_now()) IS TRUE
ORDER BY (q.org_id, q.user_id) FOR UPDATE
"""
_CLOSE: Final = """
DELETE FROM quiet_bundles q USING unnest($1::text[], $2::text[]) AS g(org_id, user_id)
WHERE q.org_id = g.org_id AND q.user_id = g.user_id
"""
_PUT_OFF: Final = """
UPDATE quiet_bundles q SET due_time = g.due_time
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS g(org_id, user_id, due_time)
WHERE q.org_id = g.org_id AND q.user_id = g.user_id
"""
_LOOK_ANEW: Final = """
WITH mine AS (
  SELECT org_id, user_id FROM quiet_bundles WHERE org_id = $1 AND ($2::text IS NULL OR user_id = $2)
  ORDER BY org_id, user_id FOR UPDATE
)
UPDATE quiet_bundles q SET due_time = app_now() FROM mine m WHERE q.org_id = m.org_id AND q.user_id = m.user_id
"""


async def open_for(tx: Tx, until: Mapping[User, tuple[UUID, datetime]]) -> dict[User, UUID]:
    """The bundle in which each of these waits: the open one, or a new one with this id, which is due at that time."""
    rows = await tx.fetch(
        _OPEN,
        [org_id for org_id, _ in until],
        [user for _, user in until],
        [bundle for bundle, _ in until.values()],
        [due for _, due in until.values()],
    )
    return {(row["org_id"], row["user_id"]): row["bundle"] for row in rows}


async def due(tx: Tx, limit: int) -> list[Due]:
    """Those whose quiet hours may be over, locked."""
    return [Due(row["org_id"], row["user_id"], row["bundle"], waited=True) for row in await tx.fetch(_DUE, limit)]


async def close(tx: Tx, users: Sequence[User]) -> None:
    """These are sent: later pages begin another bundle."""
    await tx.execute(_CLOSE, [org_id for org_id, _ in users], [user for _, user in users])


async def put_off(tx: Tx, until: Mapping[User, datetime]) -> None:
    """Postpone these until a later time."""
    users = list(until)
    await tx.execute(_PUT_OFF, [org_id for org_id, _ in users], [user for _, user in users], list(until.values()))


async def look_anew(tx: Tx, user: str | None) -> None:
    """The quiet hours of this user, or of any of the tenant, have changed: check at once whether they are over."""
    await tx.execute(_LOOK_ANEW, tx.org_id, user)
