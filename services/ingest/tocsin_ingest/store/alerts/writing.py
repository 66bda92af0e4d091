"""Writes the decisions of a batch, in two statements: first the existing rows, then the new ones.

Existing rows are first, because a key or a group must be freed before the same batch takes it again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.row_arrays import RowArrays

from tocsin_ingest.domain.actors import INGEST
from tocsin_ingest.domain.decision import Alert, Incident
from tocsin_ingest.domain.events import AlertsAdded, Event, Opened
from tocsin_ingest.domain.incident_events import Events
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_ingest.store import silences
from tocsin_ingest.store.alerts import ended_firings, endings, holds, pauses, thresholds
from tocsin_ingest.store.alerts.decisions import encode as encode_records
from tocsin_ingest.store.alerts.events import encode, kind_of

_REWRITE = outbox.rewrite_from(
    "SELECT $1::text AS org_id, * FROM unnest($18::bigint[], $19::bytea[], $20::boolean[]) AS u(id, payload, urgent)"
)
_NEW_INCIDENTS = RowArrays(
    2,
    "id uuid, integration_id text, group_key uuid, severity smallint, policy text, title text, first_alert bytea,"
    "alert_count bigint, firing_count bigint, event_sequence bigint, resolved_by text",
)
_NEW_ALERTS = RowArrays(
    13,
    "id uuid, integration_id text, dedup_key text, key uuid, state text, incident_id uuid, severity smallint, summary text,"
    "source text, newest bytea, count bigint, start_time timestamptz, decided bytea",
)
_NEW_EVENTS = RowArrays(26, "payload bytea, ordering_key text, kind text, delay float8")
_APPEND = outbox.insert_from(
    f"SELECT $1::text AS org_id, ordering_key, kind, payload, delay FROM {_NEW_EVENTS.sql} AS u", delayed=True
)

_MOST_DECIDED = 4000
"""Bytes of decisions about an alert; when there are more, the older ones are dropped."""

# The tenant is compared with IS NOT DISTINCT FROM wherever another column must be used: such a condition cannot use an index, so
# the planner has no wrong choice (see the migration). Joins by id are written `= ANY(ARRAY[…])`: for an equality it may also read
# the whole index, and compare each of its rows with each of the batch. The conditions on states select the live parts of both
# tables; a row that is closed moves to another part by the same statement. An alert that fires at the end of its silence counts
# as triggered at that moment: otherwise its incident would be quiet at once. `last_receive_time` and `count` are in no index, so
# a duplicate is a heap-only update.
UPDATE = f"""
WITH changed_incidents AS (
  UPDATE incidents SET state = CASE WHEN u.firing_count > 0 THEN 'open' ELSE 'resolved' END, severity = u.severity,
    group_key = u.group_key, last_join_time = CASE WHEN u.joined THEN app_now() ELSE incidents.last_join_time END,
    alert_count = u.alert_count, firing_count = u.firing_count, event_sequence = u.event_sequence,
    resolve_time = CASE WHEN u.firing_count = 0 THEN app_now() END, resolved_by = u.resolved_by,
    count_waits_since = CASE WHEN u.count_waits THEN app_now() ELSE incidents.count_waits_since END
  FROM unnest($2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $21::boolean[], $22::uuid[],
    $23::boolean[]) AS u(id, severity, alert_count, firing_count, event_sequence, resolved_by, count_waits, group_key, joined)
  WHERE incidents.id = ANY(ARRAY[u.id]) AND incidents.org_id IS NOT DISTINCT FROM $1 AND incidents.state = 'open'
), changed_alerts AS (
  UPDATE alerts SET state = u.state, incident_id = u.incident_id, count = u.count,
    severity = coalesce(u.severity, alerts.severity), summary = coalesce(u.summary, alerts.summary),
    source = coalesce(u.source, alerts.source), newest = coalesce(u.newest, alerts.newest),
    start_time = u.start_time,
    decided = CASE WHEN u.decided IS NULL THEN alerts.decided WHEN length(alerts.decided) < {_MOST_DECIDED}
      THEN alerts.decided || u.decided ELSE u.decided END,
    last_receive_time = CASE WHEN u.count > alerts.count OR u.state = 'resolved'
      OR (alerts.state = 'suppressed' AND u.state = 'firing') THEN app_now() ELSE alerts.last_receive_time END,
    resolve_time = CASE WHEN u.state = 'resolved' THEN app_now() END
  FROM unnest($8::uuid[], $9::text[], $10::uuid[], $11::bigint[], $12::timestamptz[], $13::smallint[], $14::text[],
    $15::text[], $16::bytea[], $17::bytea[])
    AS u(id, state, incident_id, count, start_time, severity, summary, source, newest, decided)
  WHERE alerts.id = ANY(ARRAY[u.id]) AND alerts.org_id IS NOT DISTINCT FROM $1 AND alerts.state <> 'resolved'
)
{_REWRITE}
"""

_INSERT = f"""
WITH new_incidents AS (
  INSERT INTO incidents (org_id, id, integration_id, group_key, state, severity, policy, title, first_alert,
    alert_count, firing_count, event_sequence, resolve_time, resolved_by)
  SELECT $1, id, integration_id, group_key, CASE WHEN firing_count > 0 THEN 'open' ELSE 'resolved' END, severity,
    policy, title, first_alert, alert_count, firing_count, event_sequence,
    CASE WHEN firing_count = 0 THEN app_now() END, resolved_by
  FROM {_NEW_INCIDENTS.sql} AS u
), new_alerts AS (
  INSERT INTO alerts (org_id, id, integration_id, dedup_key, key, state, incident_id, severity, summary, source, newest,
    count, start_time, decided, resolve_time)
  SELECT $1, id, integration_id, dedup_key, key, state, incident_id, severity, summary, source, newest, count, start_time, decided,
    CASE WHEN state = 'resolved' THEN app_now() END
  FROM {_NEW_ALERTS.sql} AS u
)
{_APPEND}
"""
_INSERT_AND_SHOW = f"{_INSERT}RETURNING id, ordering_key, create_time"
"""For batches of which events are handed over from memory: the other ones, which are most, are answered without a row."""

_Row = TypeVar("_Row", Alert, Incident)

_DUPLICATES_WAIT = 1.0
"""Seconds that an event with only duplicates waits for more of them; the longest time that its count is behind."""


NONE_FROM_MEMORY: Final[Callable[[str, int], bool]] = lambda org_id, count: False  # noqa: E731 - a default


@dataclass(slots=True)
class _Messages:
    rewritten: list[tuple[int, bytes, bool]]
    new: list[tuple[bytes, str, str, float]]
    """Payload, ordering key, kind, and delay in seconds."""
    first: dict[str, bytes] = field(default_factory=dict)
    """Payloads of the first events of new incidents, by ordering key: no event of their key is before them."""

    def leave_from_memory(self) -> None:
        """The first events of new incidents are due later for the relay, since they are delivered from memory."""
        self.new = [
            (*row[:3], outbox.SURE_WAY_SECONDS) if self.first.get(row[1]) is row[0] else row for row in self.new
        ]


@dataclass(slots=True)
class Written:
    """What the caller does after the commit."""

    urgent: bool
    """An event is due for the relay."""
    from_memory: list[outbox.OutboxRow]
    """Events to hand over from memory."""


async def write(tx: Tx, snapshot: Snapshot, takes: Callable[[str, int], bool] = NONE_FROM_MEMORY) -> Written:
    """Writes the changed alerts and incidents and their events. `takes`: see `Relay.takes`."""
    messages = _events(tx.org_id, snapshot)
    from_memory = bool(messages.first) and takes(tx.org_id, len(messages.first))
    if from_memory:
        messages.leave_from_memory()
    written = Written(
        any(delay == 0 for *_, delay in messages.new) or any(urgent for *_, urgent in messages.rewritten), []
    )
    incidents, new_incidents = _split(snapshot, snapshot.incidents.values())
    alerts, new_alerts = _split(snapshot, snapshot.alerts.values())
    if incidents or alerts or messages.rewritten:
        *incident_columns, count_waits, group_keys, joined = _columns(
            9, [_changed_incident(each, snapshot.events[each.id], each.id in snapshot.joined) for each in incidents]
        )
        await tx.execute(
            UPDATE,
            tx.org_id,
            *incident_columns,
            *_columns(10, [_changed_alert(each) for each in alerts]),
            *_columns(3, messages.rewritten),
            count_waits,
            group_keys,
            joined,
        )
    if new_incidents or new_alerts or messages.new:
        rows = (
            tx.org_id,
            *_NEW_INCIDENTS.parameters(
                [_new_incident(each, snapshot.events[each.id].last_sequence) for each in new_incidents]
            ),
            *_NEW_ALERTS.parameters([_new_alert(each) for each in new_alerts]),
            *_NEW_EVENTS.parameters(messages.new),
        )
        if from_memory:
            written.from_memory = _first_of(tx.org_id, messages, await tx.fetch(_INSERT_AND_SHOW, *rows))
        else:
            await tx.execute(_INSERT, *rows)
    if snapshot.ended:
        await ended_firings.write(tx, snapshot.ended)
    if snapshot.endings:
        await endings.write(tx, snapshot.endings)
    if changed := snapshot.changed_holds():
        await holds.write(tx, changed)
    if paused := snapshot.changed_pauses():
        await pauses.write(tx, paused)
    if below := snapshot.changed_below():
        await thresholds.write(tx, below)
    if snapshot.tallies:
        await thresholds.count(tx, snapshot.tallies)
    if snapshot.reached:
        # After what else is written of alerts that wait: it moves these rows.
        await thresholds.reach(tx, snapshot.reached)
    if snapshot.silenced:
        await silences.count(tx, snapshot.silenced)
    return written


def _first_of(org_id: str, messages: _Messages, rows: Sequence[asyncpg.Record]) -> list[outbox.OutboxRow]:
    """The rows of the first events, as a relay would have claimed them. Ids grow along an ordering key."""
    kinds = {key: kind for payload, key, kind, _ in messages.new if messages.first.get(key) is payload}
    first: dict[str, asyncpg.Record] = {}
    for row in rows:
        key = row["ordering_key"]
        if key not in first or row["id"] < first[key]["id"]:
            first[key] = row
    return [
        outbox.OutboxRow(row["id"], org_id, key, kinds[key], messages.first[key], row["create_time"], attempts=0)
        for key, row in first.items()
        if key in kinds
    ]


def _events(org_id: str, snapshot: Snapshot) -> _Messages:
    messages = _Messages([], [])
    for incident_id, events in snapshot.events.items():
        _rewrite_pending(org_id, incident_id, events, messages)
        key = str(incident_id)
        for number, event in enumerate(events.new, events.sequence + 1):
            if isinstance(event, Opened) and (resolved_by := _resolved_by(snapshot.incidents[incident_id])):
                event = replace(event, resolved_by=resolved_by)
            payload = encode(org_id, incident_id, number, event)
            messages.new.append((payload, key, kind_of(event), _delay(event)))
            if number == 1:
                messages.first[key] = payload
        # Deliveries of one incident keep their order, so an urgent event makes the waiting one urgent too.
        if len(events.new) > 1 and any(_delay(event) == 0 for event in events.new):
            messages.new[-len(events.new) :] = [(*row[:3], 0.0) for row in messages.new[-len(events.new) :]]
    return messages


def _resolved_by(incident: Incident) -> str:
    """Who has resolved it; nobody if that was ingest, because nothing was heard for long: it may well last."""
    return "" if incident.open or incident.resolved_by == INGEST else incident.resolved_by


def _rewrite_pending(org_id: str, incident_id: UUID, events: Events, messages: _Messages) -> None:
    pending = events.pending
    if pending is None or not (events.rewritten or events.new):
        return
    payload = encode(org_id, incident_id, pending.sequence, pending.event)
    urgent = pending.event.urgent or any(_delay(event) == 0 for event in events.new)
    messages.rewritten.append((pending.row_id, payload, urgent))


def _delay(event: Event) -> float:
    return _DUPLICATES_WAIT if isinstance(event, AlertsAdded) and not event.urgent else 0.0


def _split(snapshot: Snapshot, rows: Iterable[_Row]) -> tuple[list[_Row], list[_Row]]:
    """Sorted by id, so that two batches touch rows in one order: those that exist, those that are new."""
    ordered = sorted(rows, key=lambda row: row.id)
    return [row for row in ordered if not snapshot.is_new(row.id)], [row for row in ordered if snapshot.is_new(row.id)]


def _columns(width: int, rows: Sequence[tuple[Any, ...]]) -> Iterable[Sequence[Any]]:
    return zip(*rows, strict=True) if rows else ((),) * width


def _changed_incident(incident: Incident, events: Events, joined: bool) -> tuple[Any, ...]:
    return (
        incident.id,
        incident.severity,
        incident.alert_count,
        incident.firing_count,
        events.last_sequence,
        None if incident.open else incident.resolved_by,
        events.tells_of_more,
        incident.group_key,
        joined,
    )


def _new_incident(incident: Incident, sequence: int) -> tuple[Any, ...]:
    first = incident.first
    assert first is not None
    return (
        incident.id,
        first.integration_id,
        incident.group_key,
        incident.severity,
        first.policy,
        first.summary,
        first.content,
        incident.alert_count,
        incident.firing_count,
        sequence,
        None if incident.open else incident.resolved_by,
    )


def _changed_alert(alert: Alert) -> tuple[Any, ...]:
    newest = alert.newest
    head = (alert.id, alert.state, alert.incident_id, alert.count, alert.started)
    decided = encode_records(alert.records) if alert.records else None
    if newest is None:
        return (*head, *(None,) * 4, decided)
    return (*head, newest.severity, newest.summary, newest.source, newest.content, decided)


def _new_alert(alert: Alert) -> tuple[Any, ...]:
    newest = alert.newest
    assert newest is not None
    return (
        alert.id,
        newest.integration_id,
        newest.dedup_key,
        alert.key,
        alert.state,
        alert.incident_id,
        newest.severity,
        newest.summary,
        newest.source,
        newest.content,
        alert.count,
        alert.started,
        encode_records(alert.records),
    )
