"""Stop the pages of one user, who has answered that someone else is to come."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Tx

from tocsin_notify.domain.page import PAGES

# What tells of an acknowledge or an end goes on. Notifications are locked before their pages, as a claim does. A call under way
# ends as it ends: no attempt follows it, since the time of its page is over.
_STOP: Final = """
WITH given AS (
  SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::int[], $5::text[])
    AS g(org_id, incident, user_id, generation, reason)
), mine AS (
  SELECT n.id, n.org_id, n.page_id, n.state, g.reason FROM given g
  JOIN notifications n ON n.org_id = g.org_id AND n.incident = g.incident AND n.user_id = g.user_id
    AND n.generation <= g.generation AND n.state IN ('pending', 'sending')
  JOIN pages p ON p.org_id = n.org_id AND p.id = n.page_id AND p.type = ANY($6::text[])
  ORDER BY n.id FOR UPDATE OF n
), theirs AS (
  SELECT p.id, p.org_id FROM pages p JOIN mine m ON m.org_id = p.org_id AND m.page_id = p.id
  ORDER BY p.id FOR NO KEY UPDATE OF p
), over AS (
  UPDATE pages p SET expire_time = app_now() FROM theirs t WHERE p.org_id = t.org_id AND p.id = t.id
), cancelled AS (
  UPDATE notifications n SET state = 'cancelled', state_reason = m.reason, due_time = NULL
  FROM mine m WHERE n.org_id = m.org_id AND n.id = m.id AND m.state = 'pending' RETURNING n.id
)
SELECT ARRAY(SELECT id FROM cancelled) AS cancelled, (SELECT count(*) FROM mine WHERE state = 'sending') AS crossed
"""


@dataclass(frozen=True, slots=True)
class OwnStop:
    """The pages of an incident for a user, up to a generation, and why they are stopped."""

    org_id: str
    incident: UUID
    user: str
    generation: int
    reason: str


async def stop(tx: Tx, stops: Sequence[OwnStop]) -> tuple[list[UUID], int]:
    """Cancel what waits for an attempt; returns the ids, and the number of calls under way. For a transaction of all tenants."""
    [row] = await tx.fetch(
        _STOP,
        [each.org_id for each in stops],
        [each.incident for each in stops],
        [each.user for each in stops],
        [each.generation for each in stops],
        [each.reason for each in stops],
        list(PAGES),
    )
    return row["cancelled"], row["crossed"]
