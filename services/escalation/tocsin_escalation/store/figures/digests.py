"""Reads the content of digests. Each statement reads a limited number of rows: the figures of a time, the newest incidents."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Tx

from tocsin_escalation.domain.figures import DigestFigures, Noise, OpenIncident

MOST_OPEN: Final = 1000
"""Open incidents are counted up to here."""
_NEWEST: Final = 5000
_SHOWN: Final = 5
_SUMS: Final = """
SELECT coalesce(sum(opened), 0)::bigint, coalesce(sum(acknowledged), 0)::bigint, coalesce(sum(acknowledge_ms), 0)::bigint,
  coalesce(sum(ended), 0)::bigint
FROM incident_figures WHERE org_id = $1 AND quarter >= $2 AND quarter < $3
"""
_OPEN: Final = "'{triggered,acknowledged,snoozed,exhausted}'::text[]"
_IN_HAND: Final = "state IN ('acknowledged', 'snoozed')"
_COUNT_OPEN: Final = f"""
SELECT count(*), count(*) FILTER (WHERE NOT {_IN_HAND})
FROM (SELECT state FROM escalations WHERE org_id = $1 AND state = ANY({_OPEN}) LIMIT {MOST_OPEN}) AS counted
"""
_OLDEST: Final = f"""
SELECT e.title, e.severity, e.create_time, e.{_IN_HAND} FROM unnest({_OPEN}) AS s(state) CROSS JOIN LATERAL (
  SELECT title, severity, create_time, state FROM escalations WHERE org_id = $1 AND state = s.state
  ORDER BY create_time, incident_id LIMIT {_SHOWN}
) e ORDER BY e.create_time LIMIT {_SHOWN}
"""
_NOISIEST: Final = f"""
SELECT title, count(*), sum(alert_count)::bigint FROM (
  SELECT title, alert_count FROM escalations WHERE org_id = $1 AND create_time >= $2 AND create_time < $3
  ORDER BY create_time DESC, incident_id DESC LIMIT {_NEWEST}
) AS newest GROUP BY title ORDER BY 3 DESC, 2 DESC, 1 LIMIT {_SHOWN}
"""
_PAGES: Final = """
SELECT u.id, coalesce(f.pages, 0), coalesce(f.acknowledged, 0) FROM users u LEFT JOIN (
  SELECT user_id, sum(pages)::bigint AS pages, sum(acknowledged)::bigint AS acknowledged FROM person_figures
  WHERE org_id = $1 AND quarter >= $2 AND quarter < $3 AND user_id = ANY($4::text[]) GROUP BY user_id
) f ON f.user_id = u.id
WHERE u.org_id = $1 AND u.id = ANY($4::text[]) AND NOT u.disabled ORDER BY u.id
"""


async def of_tenant(tx: Tx, start: datetime, end: datetime) -> DigestFigures:
    """Of the transaction's tenant within [start, end), and the incidents that are open now."""
    [(opened, acknowledged, acknowledge_ms, ended)] = await tx.fetch(_SUMS, tx.org_id, start, end)
    [(open_now, unanswered)] = await tx.fetch(_COUNT_OPEN, tx.org_id)
    oldest = tuple(OpenIncident(*row) for row in await tx.fetch(_OLDEST, tx.org_id))
    noisiest = tuple(Noise(*row) for row in await tx.fetch(_NOISIEST, tx.org_id, start, end))
    return DigestFigures(opened, acknowledged, acknowledge_ms, ended, open_now, unanswered, oldest, noisiest)


async def of_users(tx: Tx, users: Sequence[str], start: datetime, end: datetime) -> list[tuple[str, int, int]]:
    """Id, pages and acknowledges within [start, end) of those users who exist and are not disabled."""
    rows = await tx.fetch(_PAGES, tx.org_id, start, end, list(users))
    return [(row[0], row[1], row[2]) for row in rows]
