"""Counts repeats of firing alerts, in one statement that reads nothing first, and reports their number to escalation."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.message import Message

# An incident's number of alerts reaches escalation with the event that waits for its delivery (`count_waits_since`), which reads
# it then; without such an event the repeat must make one, and is left to the batch that reads. Ten seconds, because the event may
# disappear without a delivery: an operator may discard it. Both rows of a repeat are counted or the caller must roll back: a
# delivery may begin between the read of the incident and its update. Rows are touched in one order, alerts before incidents. The
# newest message is written to `alerts` again: another message of the key may have come in between. A trigger that comes too late
# to repeat its alert (`dedup_window`) is also left to the batch that reads.
COUNT: Final = """
WITH counted AS (
  UPDATE alerts SET count = alerts.count + u.more, last_receive_time = app_now(), severity = u.severity, summary = u.summary,
    source = u.source, newest = u.newest
  FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::smallint[], $6::text[], $7::text[], $8::bytea[], $9::interval[])
    AS u(id, incident_id, more, severity, summary, source, newest, dedup_window)
  JOIN incidents ON incidents.id = ANY(ARRAY[u.incident_id]) AND incidents.org_id IS NOT DISTINCT FROM $1
    AND incidents.state = 'open' AND incidents.count_waits_since > app_now() - interval '10 seconds'
  WHERE alerts.id = ANY(ARRAY[u.id]) AND alerts.org_id IS NOT DISTINCT FROM $1 AND alerts.state = 'firing'
    AND (u.dedup_window IS NULL OR app_now() - alerts.last_receive_time < u.dedup_window)
  RETURNING alerts.id, alerts.incident_id, alerts.count, u.more
), sums AS MATERIALIZED (
  SELECT incident_id, sum(more)::bigint AS more FROM counted GROUP BY incident_id ORDER BY incident_id
), told AS (
  UPDATE incidents SET alert_count = incidents.alert_count + sums.more FROM sums
  WHERE incidents.id = ANY(ARRAY[sums.incident_id]) AND incidents.org_id IS NOT DISTINCT FROM $1 AND incidents.state = 'open'
    AND incidents.count_waits_since IS NOT NULL
  RETURNING incidents.id
)
SELECT id, count, (SELECT count(*) FROM sums) = (SELECT count(*) FROM told) AS whole FROM counted
"""


# The row is locked until the transaction that counts commits, so this delivery includes the count. Later repeats find no waiting
# event. Batches hold their integrations while they take incidents in several statements; this holds none, so it must not wait for
# one incident while it has others.
def _take(wait: str) -> str:
    return f"""
WITH held AS MATERIALIZED (
  SELECT incidents.id FROM unnest($1::text[], $2::uuid[]) AS asked (org_id, id)
  JOIN incidents ON incidents.id = ANY(ARRAY[asked.id]) AND incidents.org_id IS NOT DISTINCT FROM asked.org_id
    AND incidents.state = 'open'
  FOR NO KEY UPDATE OF incidents {wait}
)
UPDATE incidents SET count_waits_since = NULL FROM held
WHERE incidents.id = ANY(ARRAY[held.id]) AND incidents.state = 'open'
RETURNING incidents.org_id, incidents.id, alert_count
"""


TAKE: Final = _take("SKIP LOCKED")
TAKE_ONE: Final = _take("")


class Repeat(NamedTuple):
    """`more` repeats of the message that the alert, which fires in the incident, has counted before."""

    alert_id: UUID
    incident_id: UUID
    more: int
    message: Message


class NotWhole(Exception):
    """A count was added for an incident without a waiting event: the transaction must roll back."""


async def count(tx: Tx, repeats: Sequence[Repeat]) -> dict[UUID, int]:
    """Counts those whose alerts fire, and whose incidents tell of it; the counts of these alerts after that.

    The others are as they were. Their integrations must be locked. Raises NotWhole.
    """
    ordered = sorted(repeats)
    rows = await tx.fetch(
        COUNT,
        tx.org_id,
        [each.alert_id for each in ordered],
        [each.incident_id for each in ordered],
        [each.more for each in ordered],
        [each.message.severity for each in ordered],
        [each.message.summary for each in ordered],
        [each.message.source for each in ordered],
        [each.message.content for each in ordered],
        [each.message.dedup_window for each in ordered],
    )
    if rows and not rows[0]["whole"]:
        raise NotWhole
    return {row["id"]: row["count"] for row in rows}


async def take_counts(tx: Tx, incidents: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], int]:
    """How many alerts the open ones of these incidents (tenant, id) hold, for events that are now delivered.

    Those that a batch holds are left out. Of any tenants, in a transaction for claims, which must be committed before escalation
    is told.
    """
    return _counts(await tx.fetch(TAKE, [org_id for org_id, _ in incidents], [each for _, each in incidents]))


async def take_count(tx: Tx, incident: tuple[str, UUID]) -> dict[tuple[str, UUID], int]:
    """The same for one, as soon as no batch holds it. The transaction must hold no other row."""
    org_id, incident_id = incident
    return _counts(await tx.fetch(TAKE_ONE, [org_id], [incident_id]))


def _counts(rows: Sequence[asyncpg.Record]) -> dict[tuple[str, UUID], int]:
    return {(row["org_id"], row["id"]): row["alert_count"] for row in rows}
