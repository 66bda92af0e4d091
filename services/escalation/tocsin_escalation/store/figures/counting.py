"""Counts timeline entries into figures, one tenant at a time, from the last counted place on.

This work delays no page: entries are counted some seconds after they were written. Entries are read in the order of
`store.incidents.changes`, so that an entry that commits late is not missed. The place and the figures are written in one
transaction, so that no entry is counted twice.

An incident counts in the quarter of an hour in which it was opened, under the policy, team and severity that it had when it was
counted first. Later events of the incident are added there: so for the incidents of a month the times to answer are known. Only
`ended` counts in the quarter in which an incident was resolved.

`counted_incidents` has no foreign key to `escalations`: its check would wait for every step that holds an incident, and delay the
next one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asyncpg import Record
from tocsin_kit.db.pool import Tx

from tocsin_escalation.store.incidents.changes import LAST_ID, NEXT, Position


@dataclass(frozen=True, slots=True)
class Place:
    """How far a tenant's timeline is counted. Entries older than `since` are not counted."""

    position: Position
    since: datetime


_SERVER: Final = "(SELECT system_identifier::text FROM pg_control_system())"
"""Numbers of transactions are those of one server. A dump that is restored on another server contains some that mean nothing
there."""
_TENANTS: Final = f"""
WITH RECURSIVE tenants AS (
  (SELECT org_id FROM timeline WHERE org_id > $1 AND transaction IS NOT NULL ORDER BY org_id LIMIT 1)
  UNION ALL
  SELECT (SELECT l.org_id FROM timeline l WHERE l.org_id > t.org_id AND l.transaction IS NOT NULL ORDER BY l.org_id LIMIT 1)
  FROM tenants t WHERE t.org_id IS NOT NULL
), named AS (SELECT org_id FROM tenants WHERE org_id IS NOT NULL LIMIT $2)
SELECT n.org_id, p.org_id IS NULL OR p.server <> {_SERVER} OR EXISTS (
    SELECT FROM timeline l WHERE l.org_id = n.org_id AND (l.transaction, l.id) > (p.transaction, p.id) AND l.transaction < {NEXT}
  ) AS new
FROM named n LEFT JOIN LATERAL (SELECT * FROM counting_places c WHERE c.org_id = n.org_id LIMIT 1) p ON true
"""
_BEGIN: Final = f"""
INSERT INTO counting_places AS p (org_id, server, since, transaction, id)
SELECT $1, {_SERVER}, '-infinity', 0, 0
ON CONFLICT (org_id) DO UPDATE SET server = excluded.server, since = app_now(), transaction = 0, id = 0
WHERE p.server <> excluded.server
"""
_LOCK: Final = f"""
SELECT transaction, id, since FROM counting_places WHERE org_id = $1 AND server = {_SERVER} FOR UPDATE SKIP LOCKED
"""
_IS_THERE: Final = f"SELECT EXISTS (SELECT FROM counting_places WHERE org_id = $1 AND server = {_SERVER})"
_END: Final = """
SELECT transaction, id FROM timeline
WHERE org_id = $1 AND (transaction, id) > ($2, $3) AND transaction < $4 ORDER BY transaction, id OFFSET $5 LIMIT 1
"""
_BETWEEN: Final = """
SELECT t.incident_id, t.kind, t.create_time, t.actor, t.paged_users FROM timeline t
WHERE t.org_id = $1 AND (t.transaction, t.id) > ($2, $3) AND (t.transaction, t.id) <= ($4, $5)
  AND t.transaction <= $4 AND t.create_time >= $6
"""
_QUARTER: Final = "date_bin('15 minutes', {}, '2000-01-01Z')"
_KEYS: Final = "org_id, quarter, policy_id, team, severity"
_OPENED: Final = f"""
WITH entries AS ({_BETWEEN}), new AS (
  INSERT INTO counted_incidents (incident_id, org_id, create_time, policy_id, team, severity)
  SELECT e.incident_id, e.org_id, e.create_time, e.policy_id, e.team, e.severity
  FROM (SELECT DISTINCT incident_id FROM entries WHERE kind = 'opened') n
  JOIN escalations e ON e.incident_id = n.incident_id AND e.org_id IS NOT DISTINCT FROM $1
  ORDER BY e.incident_id ON CONFLICT (incident_id) DO NOTHING RETURNING *
)
INSERT INTO incident_figures AS f ({_KEYS}, opened)
SELECT org_id, {_QUARTER.format("create_time")} AS quarter, policy_id, team, severity, count(*) FROM new GROUP BY {_KEYS}
ORDER BY {_KEYS}
ON CONFLICT ({_KEYS}) DO UPDATE SET opened = f.opened + excluded.opened
"""


def _first(kind: str, flag: str, length: str = "") -> str:
    """Counts the first entry of a kind of each incident, and the time from its opening to it as `length`."""
    column, value, further = "", "", ""
    if length:
        milliseconds = "sum(floor(greatest(extract(epoch FROM entry_time - create_time), 0) * 1000))::bigint"
        column, value, further = f", {length}", f", {milliseconds}", f", {length} = f.{length} + excluded.{length}"
    return f"""
WITH entries AS ({_BETWEEN}), firsts AS (
  UPDATE counted_incidents c SET {flag} = true
  FROM (SELECT incident_id, min(create_time) AS entry_time FROM entries WHERE kind = '{kind}' GROUP BY incident_id) n
  WHERE c.incident_id = n.incident_id AND c.org_id = $1 AND NOT c.{flag} RETURNING c.*, n.entry_time
)
INSERT INTO incident_figures AS f ({_KEYS}, {flag}{column})
SELECT org_id, {_QUARTER.format("create_time")} AS quarter, policy_id, team, severity, count(*){value} FROM firsts GROUP BY {_KEYS}
ORDER BY {_KEYS}
ON CONFLICT ({_KEYS}) DO UPDATE SET {flag} = f.{flag} + excluded.{flag}{further}
"""


_ACKNOWLEDGED: Final = _first("acknowledged", "acknowledged", "acknowledge_ms")
_RESOLVED: Final = f"""
WITH entries AS ({_BETWEEN}), firsts AS (
  UPDATE counted_incidents c SET resolved = true
  FROM (SELECT incident_id, min(create_time) AS entry_time FROM entries WHERE kind = 'resolved' GROUP BY incident_id) n
  WHERE c.incident_id = n.incident_id AND c.org_id = $1 AND NOT c.resolved RETURNING c.*, n.entry_time
), quarters AS (
  SELECT org_id, {_QUARTER.format("create_time")} AS quarter, policy_id, team, severity, 1 AS resolved,
    floor(greatest(extract(epoch FROM entry_time - create_time), 0) * 1000) AS resolve_ms, 0 AS ended FROM firsts
  UNION ALL
  SELECT org_id, {_QUARTER.format("entry_time")}, policy_id, team, severity, 0, 0, 1 FROM firsts
)
INSERT INTO incident_figures AS f ({_KEYS}, resolved, resolve_ms, ended)
SELECT {_KEYS}, sum(resolved), sum(resolve_ms)::bigint, sum(ended) FROM quarters GROUP BY {_KEYS} ORDER BY {_KEYS}
ON CONFLICT ({_KEYS}) DO UPDATE SET resolved = f.resolved + excluded.resolved, resolve_ms = f.resolve_ms + excluded.resolve_ms,
  ended = f.ended + excluded.ended
"""
"""A resolved incident counts twice: in the quarter in which it was opened, and as `ended` in the one in which it was resolved."""
_EXHAUSTED: Final = _first("exhausted", "exhausted")
_PERSON_KEYS: Final = "org_id, quarter, user_id, policy_id, team"
_PEOPLE: Final = f"""
WITH entries AS ({_BETWEEN}), acts AS (
  SELECT incident_id, create_time, unnest(paged_users) AS user_id, 1 AS pages, 0 AS acknowledged FROM entries
  UNION ALL
  SELECT incident_id, create_time, substr(actor, 7), 0, 1 FROM entries WHERE kind = 'acknowledged' AND actor LIKE 'users/%'
)
INSERT INTO person_figures AS f ({_PERSON_KEYS}, pages, acknowledged)
SELECT c.org_id, {_QUARTER.format("a.create_time")} AS quarter, a.user_id, c.policy_id, c.team, sum(a.pages), sum(a.acknowledged)
FROM acts a JOIN counted_incidents c ON c.incident_id = a.incident_id AND c.org_id IS NOT DISTINCT FROM $1
GROUP BY c.org_id, quarter, a.user_id, c.policy_id, c.team ORDER BY {_PERSON_KEYS}
ON CONFLICT ({_PERSON_KEYS}) DO UPDATE SET pages = f.pages + excluded.pages, acknowledged = f.acknowledged + excluded.acknowledged
"""
_MOVE: Final = "UPDATE counting_places SET transaction = $2, id = $3, count_time = app_now() WHERE org_id = $1"


async def tenants(tx: Tx, after: str, limit: int) -> list[tuple[str, bool]]:
    """The next tenants after `after` that have a timeline, and whether there are entries to count: one or two index reads each."""
    return [(record["org_id"], record["new"]) for record in await tx.fetch(_TENANTS, after, limit)]


async def begin(tx: Tx) -> Place | None:
    """The place of the transaction's tenant, locked; None while another replica counts it."""
    record: Record | None = await tx.fetchrow(_LOCK, tx.org_id)
    # An INSERT ON CONFLICT waits for the transaction that holds the row, even if it then changes nothing.
    if record is None and not await tx.fetchval(_IS_THERE, tx.org_id):
        await tx.execute(_BEGIN, tx.org_id)
        record = await tx.fetchrow(_LOCK, tx.org_id)
    return None if record is None else Place(Position(record["transaction"], record["id"]), record["since"])


async def end_of(tx: Tx, place: Place, settled: int, limit: int) -> tuple[Position, bool]:
    """The place after the next `limit` settled entries, and whether there are more."""
    record = await tx.fetchrow(_END, tx.org_id, *place.position, settled, limit - 1)
    if record is None:
        return max(place.position, Position(settled - 1, LAST_ID)), False
    return Position(record["transaction"], record["id"]), True


async def count(tx: Tx, place: Place, end: Position) -> None:
    """Count the entries between the place and `end`, and move the place."""
    between = (tx.org_id, *place.position, *end, place.since)
    # Each needs the rows that the previous one wrote.
    for statement in (_OPENED, _ACKNOWLEDGED, _RESOLVED, _EXHAUSTED, _PEOPLE):
        await tx.execute(statement, *between)
    await tx.execute(_MOVE, tx.org_id, *end)


async def delete_old(tx: Tx, limit: int, *, days: int) -> int:
    """Delete figures older than `days`; returns how many rows, at most twice `limit`."""
    done = 0
    for table, keys in (("incident_figures", _KEYS), ("person_figures", _PERSON_KEYS)):
        status = await tx.execute(
            f"""DELETE FROM {table} WHERE ({keys}) IN (
                  SELECT {keys} FROM {table} WHERE quarter < app_now() - make_interval(days => $1) ORDER BY quarter LIMIT $2
                  FOR UPDATE SKIP LOCKED)""",
            days,
            limit,
        )
        done += int(status.rpartition(" ")[2])
    return done
