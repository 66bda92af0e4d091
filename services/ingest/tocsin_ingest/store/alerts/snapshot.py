"""Reads what a batch needs to decide: live alerts of its keys, their incidents, open incidents of its groups."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx

from tocsin_ingest.domain.decision import Alert, AlertState, Incident
from tocsin_ingest.domain.incident_events import Pending
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.silences import Hold
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_ingest.store import silences
from tocsin_ingest.store.alerts import ended_firings, thresholds
from tocsin_ingest.store.alerts.events import ALERTS_ADDED, decode_alerts_added

# Looking them up costs a fifth of creating them from their values.
_STATES: Final = {state.value: state for state in AlertState}
_SEVERITIES: Final = {severity.value: severity for severity in Severity}

# A replica that is stopped in the middle of a batch holds its integrations for every other replica; PostgreSQL ends its
# transaction after this many milliseconds without a statement. All further statements find rows by key, with any estimate of the
# planner about tables without statistics, or with few live rows at the time of the last ones: a storm begins after a quiet
# minute, with the plans of that minute. `enable_seqscan` would not do: PostgreSQL 18 ignores it where only one part of a table
# remains. Joins are written `= ANY(ARRAY[…])`: for an equality the planner may also read the whole index, comparing each of its
# rows with each of the batch.
_SETTINGS: Final = {
    "idle_in_transaction_session_timeout": "3000",
    "enable_mergejoin": "off",
    "enable_hashjoin": "off",
    "seq_page_cost": "1e6",
}
_SET: Final = ";".join(f"SET LOCAL {name}={value}" for name, value in _SETTINGS.items())
_LOCK: Final = f"""
SELECT {", ".join(f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items())}, pg_advisory_xact_lock(key)
FROM unnest($1::bigint[]) AS key
"""
_TRY_LOCK: Final = "SELECT WHERE pg_try_advisory_xact_lock($1)"
_LOCKED: Final = "SELECT 1"

_INCIDENT: Final = """incidents.id AS incident_id, incidents.group_key, incidents.severity, incidents.alert_count,
  incidents.firing_count, incidents.event_sequence, incidents.last_join_time"""

# Three kinds of rows in one round trip: live alerts with their incidents, open incidents of the groups, and the undelivered
# events of all these incidents that can still be rewritten, because no delivery of them has begun. The conditions on states
# select the live parts of both tables, however long the history is. Only a suppressed alert can be held back: for the others the
# key of the join is NULL, and no index is read.
_TOUCHED: Final = "ARRAY(SELECT incident_id::text FROM live UNION SELECT incident_id::text FROM grouped)"


def _read(pending: str) -> str:
    """`pending`: gives the undelivered events of the incidents in `live` and `grouped`."""
    return f"""
WITH live AS MATERIALIZED (
  SELECT alerts.id AS alert_id, alerts.key, alerts.state, alerts.count, alerts.start_time,
    alerts.last_receive_time, alert_holds.silence_id, alert_holds.due_time, alert_holds.labels, {_INCIDENT}
  FROM alerts
  LEFT JOIN alert_holds ON alert_holds.alert_id = ANY(ARRAY[CASE WHEN alerts.state = 'suppressed' THEN alerts.id END])
    AND alert_holds.org_id IS NOT DISTINCT FROM alerts.org_id
  LEFT JOIN incidents ON incidents.id = ANY(ARRAY[alerts.incident_id]) AND incidents.org_id IS NOT DISTINCT FROM alerts.org_id
    AND incidents.state = 'open'
  WHERE alerts.key = ANY($2) AND alerts.state <> 'resolved' AND alerts.org_id IS NOT DISTINCT FROM $1
), grouped AS MATERIALIZED (
  SELECT {_INCIDENT} FROM incidents
  WHERE group_key = ANY($3) AND state = 'open' AND org_id IS NOT DISTINCT FROM $1
), pending AS MATERIALIZED (
  {pending}
)
SELECT *, NULL::bigint AS pending_id, NULL::bytea AS pending FROM live
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, grouped.*, NULL, NULL FROM grouped
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ordering_key::uuid, NULL, NULL, NULL, NULL, NULL, NULL,
  id, payload FROM pending
"""


READ: Final = _read(outbox.lock_untried(ALERTS_ADDED, _TOUCHED))
_LOOK: Final = _read("SELECT NULL AS ordering_key, NULL::bigint AS id, NULL::bytea AS payload WHERE false")


def lock_first(org_id: str, integration_id: str) -> str:
    """What locks an integration as a transaction's first statement (`Database.transaction`), if no other transaction holds it."""
    return f"{_SET};{_TRY_LOCK.replace('$1', str(_lock_key(org_id, integration_id)))}"


def is_locked(tx: Tx) -> bool:
    """Whether the transaction began with `lock_first`, and that did. Otherwise `lock_integrations` must be asked."""
    return tx.answer == _LOCKED


async def lock_integrations(tx: Tx, integration_ids: Iterable[str]) -> None:
    """Waits until no other transaction decides about these integrations of the tenant, and keeps others out until the commit.

    Dedup keys and group keys are scoped to an integration, so this lock is enough for "one open incident per key"; batches make
    up for the serialization. Locks are taken in one order, so none deadlock.
    """
    await tx.execute(_LOCK, sorted(_lock_key(tx.org_id, integration_id) for integration_id in set(integration_ids)))


async def fill(tx: Tx, snapshot: Snapshot, messages: Sequence[Message]) -> None:
    """Puts into the snapshot all that the messages can touch. The integrations must be locked before."""
    _put(snapshot, await tx.fetch(READ, tx.org_id, *_touched(messages)))
    # Mostly there are none, and one check of each message shows that.
    special = [
        each
        for each in messages
        if each.action is not Action.TRIGGER
        or each.silences
        or each.pause is not None
        or each.threshold is not None
        or each.expiry is not None
        or each.seen is not None
        or each.group_window is not None
        or each.dedup_window is not None
    ]
    if special:
        await _put_waiting(tx, snapshot, special)
    if timed := _timed(messages):
        _put_ended(snapshot, await ended_firings.read(tx, timed))
    if any(_asks_the_clock(each) for each in special):
        # The time of the transaction is the time of every decision in it.
        now = await tx.now()
        matched = {silence.id for each in special for silence in each.silences}
        snapshot.put_windows(await silences.windows(tx, matched, now) if matched else {}, now)


def _asks_the_clock(message: Message) -> bool:
    if message.silences or message.expiry is not None or message.waits or message.seen is not None:
        return True
    windows = message.group_window is not None or message.dedup_window is not None
    return windows and message.action is Action.TRIGGER


async def look(tx: Tx, snapshot: Snapshot, message: Message, now: datetime) -> None:
    """Like `fill`, with the silences of another time, for one message that is only simulated: nothing is locked."""
    _put(snapshot, await tx.fetch(_LOOK, tx.org_id, *_touched([message])))
    await _put_waiting(tx, snapshot, [message])
    if timed := _timed([message]):
        _put_ended(snapshot, await ended_firings.read(tx, timed))
    snapshot.put_windows(await silences.windows(tx, [each.id for each in message.silences], now, lock=False), now)


async def _put_waiting(tx: Tx, snapshot: Snapshot, messages: Sequence[Message]) -> None:
    """What pauses suppressed alerts and which thresholds they wait for, where that decides something: a trigger of a rule that
    knows neither has no need of it."""
    keys = {each.key for each in messages if each.waits or each.seen is not None or each.action is Action.RESOLVE}
    if waiting := snapshot.suppressed(keys):
        snapshot.put_waiting(*await thresholds.waiting(tx, waiting))
    groups = {each.group_key for each in messages if each.threshold is not None and each.action is Action.TRIGGER}
    if groups:
        snapshot.put_tallies(await thresholds.tallies(tx, groups))


def _touched(messages: Sequence[Message]) -> tuple[list[UUID], list[UUID]]:
    keys = {each.key for each in messages}
    groups = {each.group_key for each in messages if each.action is Action.TRIGGER and not each.suppress}
    return list(keys), list(groups)


def _timed(messages: Sequence[Message]) -> list[UUID]:
    return list({each.key for each in messages if each.started is not None})


def _put(snapshot: Snapshot, rows: Sequence[asyncpg.Record]) -> None:
    _put_incidents(snapshot, rows)
    for row in rows:
        if row["alert_id"] is not None:
            state = _STATES.get(row["state"]) or AlertState(row["state"])
            held_by = row["silence_id"]
            hold = Hold(held_by, row["due_time"], row["labels"]) if held_by is not None else None
            alert = Alert(
                row["alert_id"], row["key"], state, row["incident_id"], row["count"], None, row["start_time"], hold
            )
            snapshot.put_alert(alert, row["last_receive_time"])


def _put_ended(snapshot: Snapshot, ended: Mapping[UUID, datetime]) -> None:
    for key, started in ended.items():
        snapshot.put_ended(key, started)


def _put_incidents(snapshot: Snapshot, rows: Sequence[asyncpg.Record]) -> None:
    pending = {
        (row["incident_id"], event[1]): Pending(event[0], row["pending_id"], event[1])
        for row in rows
        if row["pending_id"] is not None
        for event in (decode_alerts_added(row["pending"]),)
    }
    for row in rows:
        incident_id = row["incident_id"]
        if incident_id is None or row["group_key"] is None or not snapshot.is_new(incident_id):
            continue
        sequence = row["event_sequence"]
        severity = _SEVERITIES[row["severity"]]
        incident = Incident(incident_id, row["group_key"], severity, row["alert_count"], row["firing_count"])
        # Only the last event may change: later ones must be heard in their own place.
        last = pending.get((incident_id, sequence))
        if last is not None:
            # Repeats may have been counted since it was written (`tocsin_ingest.store.alerts.repeats`).
            last.event = replace(last.event, alert_count=incident.alert_count)
        snapshot.put_incident(incident, sequence, last, row["last_join_time"])


def _lock_key(org_id: str, integration_id: str) -> int:
    digest = hashlib.blake2b(f"{org_id}/{integration_id}".encode(), digest_size=8, person=b"ingest").digest()
    return int.from_bytes(digest, "big", signed=True)
