"""Reads what a batch needs to decide: live alerts of its keys, their incidents, open incidents of its groups."""

import hashlib
from collections.abc import Iterable, Sequence

import asyncpg
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.board import Board, Key, Pending
from tocsin_ingest.domain.decide import Alert, AlertState, Incident
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.store.events import ALERTS_ADDED, decode_alerts_added

# A replica that is stopped in the middle of a batch holds its integrations for every other replica; PostgreSQL ends its
# transaction after this many milliseconds of silence.
_SILENCE = "3000"

_LOCK = f"""
SELECT set_config('idle_in_transaction_session_timeout', '{_SILENCE}', true), pg_advisory_xact_lock(key)
FROM unnest($1::bigint[]) AS key
"""

# The newest undelivered event of each incident, when it can still be rewritten: nobody has tried to deliver it. SKIP
# LOCKED: a row the relay is taking this very moment is as good as delivered.
_PENDING = f"""
SELECT id, ordering_key, payload FROM outbox
WHERE org_id = $1 AND ordering_key <> '' AND ordering_key = ANY(ARRAY(SELECT incident_id::text FROM found))
  AND kind = '{ALERTS_ADDED}' AND attempts = 0 AND lease_until IS NULL AND dead_time IS NULL
FOR UPDATE SKIP LOCKED
"""

_WITH_NEWEST_PENDING = """
SELECT found.*, newest.id AS pending_id, newest.payload AS pending_payload
FROM found LEFT JOIN (
  SELECT DISTINCT ON (ordering_key) id, ordering_key, payload FROM pending ORDER BY ordering_key, id DESC
) AS newest ON newest.ordering_key = found.incident_id::text
"""

_INCIDENT = """incidents.id AS incident_id, incidents.group_key, incidents.severity, incidents.alert_count,
  incidents.firing_count, incidents.event_sequence"""

_LIVE = f"""
WITH found AS MATERIALIZED (
  SELECT alerts.id AS alert_id, alerts.integration_id, alerts.dedup_key, alerts.state, alerts.count, {_INCIDENT}
  FROM unnest($2::text[], $3::text[]) AS wanted(integration_id, dedup_key)
  JOIN alerts ON alerts.org_id = $1 AND alerts.integration_id = wanted.integration_id
    AND alerts.dedup_key = wanted.dedup_key AND alerts.state <> 'resolved'
  LEFT JOIN incidents ON incidents.org_id = $1 AND incidents.id = alerts.incident_id
), pending AS MATERIALIZED ({_PENDING})
{_WITH_NEWEST_PENDING}
"""

_OPEN = f"""
WITH found AS MATERIALIZED (
  SELECT incidents.integration_id, {_INCIDENT}
  FROM unnest($2::text[], $3::text[]) AS wanted(integration_id, group_key)
  JOIN incidents ON incidents.org_id = $1 AND incidents.integration_id = wanted.integration_id
    AND incidents.group_key = wanted.group_key AND incidents.state = 'open'
), pending AS MATERIALIZED ({_PENDING})
{_WITH_NEWEST_PENDING}
"""


async def lock_integrations(tx: Tx, integration_ids: Iterable[str]) -> None:
    """Waits until nobody else decides about these integrations of the tenant, and keeps others out until the commit.

    Dedup keys and group keys are scoped to an integration, so nothing finer is needed for "one open incident per key",
    and nothing can be missed; batches make up for what is serialised. Locks are taken in one order, so none deadlock.
    """
    await tx.execute(_LOCK, sorted(_lock_key(tx.org_id, integration_id) for integration_id in set(integration_ids)))


async def fill(tx: Tx, board: Board, messages: Sequence[Message]) -> None:
    """Puts on the board all that the messages can touch. The integrations must be locked before."""
    keys = dict.fromkeys((message.integration_id, message.dedup_key) for message in messages)
    _put(board, await tx.fetch(_LIVE, tx.org_id, *_columns(keys)))
    resolved = {(each.integration_id, each.dedup_key) for each in messages if each.action is Action.RESOLVE}
    groups = dict.fromkeys(
        (each.integration_id, each.group_key)
        for each in messages
        if each.action is Action.TRIGGER
        and not each.suppress
        # A key that fires and goes on firing stays in its incident, so its group does not matter.
        and (not board.is_firing(key := (each.integration_id, each.dedup_key)) or key in resolved)
    )
    if groups:
        _put(board, await tx.fetch(_OPEN, tx.org_id, *_columns(groups)))


def _put(board: Board, rows: Sequence[asyncpg.Record]) -> None:
    for row in rows:
        integration_id, incident_id = row["integration_id"], row["incident_id"]
        if incident_id is not None and board.is_new(incident_id):
            sequence = row["event_sequence"]
            board.put_incident(
                Incident(
                    incident_id,
                    integration_id,
                    row["group_key"],
                    Severity(row["severity"]),
                    row["alert_count"],
                    row["firing_count"],
                ),
                sequence,
                _pending(row, sequence),
            )
        if "alert_id" in row.keys():  # noqa: SIM118  (`in` on a Record looks at values)
            board.put_alert(
                Alert(
                    row["alert_id"],
                    integration_id,
                    row["dedup_key"],
                    AlertState(row["state"]),
                    incident_id,
                    row["count"],
                )
            )


def _pending(row: asyncpg.Record, sequence: int) -> Pending | None:
    if row["pending_id"] is None:
        return None
    event, number = decode_alerts_added(row["pending_payload"])
    # Another event came after it: escalation must hear what follows in its place, not before.
    return Pending(event, row["pending_id"], number) if number == sequence else None


def _columns(keys: Iterable[Key]) -> tuple[list[str], list[str]]:
    pairs = list(keys)
    return [integration_id for integration_id, _ in pairs], [key for _, key in pairs]


def _lock_key(org_id: str, integration_id: str) -> int:
    digest = hashlib.blake2b(f"{org_id}/{integration_id}".encode(), digest_size=8, person=b"ingest").digest()
    return int.from_bytes(digest, "big", signed=True)
