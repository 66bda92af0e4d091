"""Notifications: made, claimed, concluded, cancelled; always in sets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin_kit.db import outbox
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.row_arrays import RowArrays
from tocsin_kit.db.rows import columns

from tocsin_notify.domain.page import CRITICAL, NORMAL, SLOW, Channel, Kind, State
from tocsin_notify.store.contacts.languages import language_of
from tocsin_notify.store.delivery.outcomes import SENT
from tocsin_notify.store.delivery.rows import Claimed, Concluded, NotificationHead, Upcoming
from tocsin_notify.store.delivery.senders import NAMES
from tocsin_notify.store.pages.fences import answered_of, reason_of, stops
from tocsin_notify.store.queues import PAUSED

EARLY: Final = 0.1
"""Seconds by which a hint may come before the row is due by the database's clock: Redis' clock is another one."""

_NEW: Final = RowArrays(
    3,
    "id uuid, org_id text, page_id uuid, user_id text, incident uuid, generation int, priority smallint, contact_method uuid,"
    "channel text, step int, state text, state_reason text, delay float8, outlasts boolean",
)
_INSERT: Final = f"""
WITH given AS (
  SELECT * FROM {_NEW.sql} AS g
), stored AS (
  INSERT INTO notifications (id, org_id, page_id, user_id, incident, generation, priority, contact_method, channel,
    step, state, state_reason, due_time, lease_until, attempts, tries, outlasts)
  SELECT id, org_id, page_id, user_id, incident, generation, priority, contact_method, channel, step, state,
    state_reason,
    CASE WHEN state = 'pending' THEN app_now() + make_interval(secs => delay) END,
    CASE WHEN state = 'sending' THEN app_now() + make_interval(secs => $1) END,
    (state = 'sending')::int, (state = 'sending')::int, outlasts
  FROM given
  ON CONFLICT ON CONSTRAINT notifications_once_per_step DO NOTHING
  RETURNING id, org_id, state
), begun AS (
  INSERT INTO attempts (org_id, notification_id, number, sender)
  SELECT org_id, id, 1, {NAMES.format(own="$2")} FROM stored WHERE state = 'sending'
)
SELECT id FROM stored
"""

_KINDS: Final = list(Kind)
"""Pages of a kind that only a newer version knows are left to it."""

# A pending row may be tried at any count: its last conclusion decided so. One whose senders vanish again and again may not.
_CLAIM: Final = f"""
WITH mine AS (
  SELECT n.* FROM notifications n
  WHERE n.id = ANY($1::uuid[])
    AND ((n.state = 'pending' AND n.due_time <= app_now() + make_interval(secs => {EARLY}))
      OR (n.state = 'sending' AND n.lease_until <= app_now()))
    AND NOT {PAUSED}
  ORDER BY n.id FOR UPDATE SKIP LOCKED
), judged AS (
  SELECT m.id, m.state AS was, m.org_id, m.page_id, m.user_id, m.incident, m.generation, m.contact_method, c.channel, m.priority,
    m.attempt_group,
    m.attempts + 1 AS attempts, m.tries + 1 AS tries,
    p.type, p.job, p.planned_time, c.address, c.secret, c.key_id, {language_of("m")},
    {answered_of("m")} AS answered,
    CASE WHEN f.reason IS NOT NULL THEN {reason_of("f", "m")}
         WHEN p.type = 'verification' AND p.create_time < app_now() - interval '10 minutes' THEN 'the code is over'
         WHEN p.expire_time <= app_now() THEN 'the time in which it may be sent is over'
    END AS stop_reason,
    c.org_id = m.org_id AND c.delete_time IS NULL
      AND (p.only_method IS NOT NULL OR (c.verify_time IS NOT NULL AND NOT c.disabled AND NOT c.user_disabled)) AS usable
  FROM mine m
  JOIN pages p ON p.id = m.page_id AND p.org_id IS NOT DISTINCT FROM m.org_id AND p.type = ANY($5::text[])
  JOIN contact_methods c ON c.id = m.contact_method
  LEFT JOIN cancel_fences f ON f.org_id = m.org_id AND f.incident = m.incident AND {stops("f", "m")}
), decided AS (
  SELECT *, app_now() AS now, CASE WHEN stop_reason IS NOT NULL THEN 'cancelled' WHEN NOT usable THEN 'unusable'
                 WHEN was = 'sending' AND tries > $2 THEN 'exhausted' ELSE 'sending' END AS verdict
  FROM judged
), changed AS (
  UPDATE notifications n SET
    state = d.verdict,
    state_reason = CASE WHEN d.verdict = 'cancelled' THEN d.stop_reason
                        WHEN n.priority >= {SLOW[CRITICAL]} THEN n.state_reason ELSE '' END,
    due_time = NULL,
    lease_until = CASE d.verdict WHEN 'sending' THEN app_now() + make_interval(secs => $3) END,
    attempts = CASE d.verdict WHEN 'sending' THEN d.attempts ELSE n.attempts END,
    tries = CASE d.verdict WHEN 'sending' THEN d.tries ELSE n.tries END,
    channel = d.channel
  FROM decided d WHERE n.id = d.id AND d.verdict IN ('cancelled', 'sending')
), begun AS (
  INSERT INTO attempts (org_id, notification_id, number, sender)
  SELECT org_id, id, attempts, {NAMES.format(own="$4")} FROM decided WHERE verdict = 'sending'
)
SELECT {columns(Claimed)} FROM decided
"""

_REPORTS: Final = f"""SELECT org_id, '' AS ordering_key, '{SENT}' AS kind, report AS payload FROM decided
    WHERE state = 'sent' AND report IS NOT NULL"""
# A provider's success counts even when another replica took the row over and made it pending again; a failure counts
# only while the row is ours. A success no longer counts once a receipt has reported that this attempt's message failed.
# That is stored in the notification's own row: a statement that waited for its lock sees the new version of this row,
# and the old versions of all others. A person who answers before the provider's own answer is noted proves that the
# message was sent; only the provider's name for it is missing then. Rows are found by id alone: while statistics are
# young the planner prefers the indexes of waiting rows, and reads all of them.
_ENDED: Final = RowArrays(
    2,
    "id uuid, number int, outcome text, detail text, provider_id text, verdict text, delay float8, report bytea, org_id text",
)
_CONCLUDE: Final = f"""
WITH given AS (
  SELECT * FROM {_ENDED.sql} AS g
), noted AS (
  UPDATE attempts a SET end_time = app_now(), outcome = g.outcome, detail = g.detail, provider_id = g.provider_id
  FROM given g
  WHERE a.notification_id = g.id AND a.org_id IS NOT DISTINCT FROM g.org_id AND a.number = g.number
    AND (a.outcome = 'started' OR (a.outcome = 'sent' AND g.outcome = 'sent' AND a.provider_id = ''))
), counted AS (
  INSERT INTO queue_counters AS q (queue, shard, completed, failed)
  SELECT 'notify', $1, count(*) FILTER (WHERE outcome = 'sent'), count(*) FILTER (WHERE outcome <> 'sent') FROM given
  ON CONFLICT (queue, shard) DO UPDATE
    SET completed = q.completed + excluded.completed, failed = q.failed + excluded.failed
), held AS MATERIALIZED (
  SELECT * FROM notifications WHERE id = ANY($2::uuid[]) ORDER BY id FOR UPDATE
), mine AS (
  SELECT n.id, n.org_id, n.page_id, n.user_id, n.incident, n.contact_method, n.priority, n.generation,
    g.verdict, g.detail, g.delay, g.report, {reason_of("f", "n")} AS fence_reason
  FROM held n
  JOIN given g ON g.id = n.id AND g.org_id IS NOT DISTINCT FROM n.org_id
  LEFT JOIN cancel_fences f ON f.org_id = n.org_id AND f.incident = n.incident AND {stops("f", "n")}
  WHERE (n.state = 'sending' AND n.attempts = g.number)
    OR (n.state = 'pending' AND g.verdict = 'sent' AND g.number > n.failed_attempt)
), decided AS (
  SELECT *, CASE WHEN verdict = 'sent' THEN 'sent' WHEN fence_reason IS NOT NULL THEN 'cancelled'
                 WHEN verdict = 'retry' THEN 'pending' ELSE 'dead' END AS state
  FROM mine
), changed AS (
  UPDATE notifications n SET
    state = d.state,
    state_reason = CASE
      WHEN d.state = 'sent' AND d.fence_reason IS NOT NULL THEN 'crossed with: ' || d.fence_reason
      WHEN d.state = 'sent' THEN ''
      WHEN d.state = 'cancelled' THEN d.fence_reason || '; the attempt under way failed: ' || d.detail
      ELSE d.detail END,
    due_time = CASE d.state WHEN 'pending' THEN app_now() + make_interval(secs => d.delay) END,
    lease_until = NULL,
    send_time = CASE d.state WHEN 'sent' THEN app_now() END
  FROM decided d WHERE n.id = d.id
), told AS (
  {outbox.insert_from(_REPORTS)}
)
SELECT {columns(Concluded)} FROM (
  SELECT d.*, p.planned_time, p.type, app_now() AS now FROM decided d
  JOIN pages p ON p.id = d.page_id AND p.org_id IS NOT DISTINCT FROM d.org_id
) AS concluded
"""

# A message for several pages should not name one that was answered since its text was made. Only its first attempt is refused
# for that: in a storm that recovers something is answered during every attempt, and the pages still open must not wait for its end.
_MAY_START: Final = f"""
SELECT n.id FROM unnest($1::text[], $2::uuid[], $3::int[], $4::int[]) AS g(org_id, id, attempt, answered)
JOIN notifications n ON n.id = g.id AND n.org_id = g.org_id AND n.attempts = g.attempt
WHERE n.state = 'sending' AND n.lease_until > app_now()
  AND NOT EXISTS (SELECT FROM cancel_fences f
                  WHERE f.org_id = n.org_id AND f.incident = n.incident AND {stops("f", "n")})
  AND (g.attempt > 1 OR {answered_of("n")} <= g.answered)
"""

# Rows that another session holds are skipped: they meet the fence when they are due, and a stopped process that holds
# them blocks no acknowledge.
_CANCEL: Final = f"""
WITH given AS (SELECT * FROM unnest($1::text[], $2::uuid[]) AS g(org_id, incident)),
mine AS (
  SELECT n.id, n.state, {reason_of("f", "n")} AS reason FROM given g
  JOIN cancel_fences f ON f.org_id = g.org_id AND f.incident = g.incident
  JOIN notifications n ON n.org_id = g.org_id AND n.incident = g.incident AND {stops("f", "n")}
    AND (n.state = 'pending' OR (n.state = 'sending' AND n.lease_until <= app_now()))
  ORDER BY n.id FOR UPDATE OF n SKIP LOCKED
), cancelled AS (
  UPDATE notifications n SET state = 'cancelled', state_reason = m.reason, due_time = NULL, lease_until = NULL
  FROM mine m WHERE n.id = m.id RETURNING n.id
)
SELECT ARRAY(SELECT id FROM cancelled) AS cancelled, (
  SELECT count(*) FROM given g
  JOIN cancel_fences f ON f.org_id = g.org_id AND f.incident = g.incident
  JOIN notifications n ON n.org_id = g.org_id AND n.incident = g.incident AND {stops("f", "n")}
    AND n.state = 'sending'
  WHERE n.id <> ALL(ARRAY(SELECT id FROM cancelled))) AS crossed
"""

_PENDING_OF_METHOD: Final = f"""
SELECT {columns(NotificationHead)} FROM notifications
WHERE contact_method = $1 AND org_id IS NOT DISTINCT FROM $2 AND state = 'pending' ORDER BY id FOR UPDATE
"""
_WAITING_FOR: Final = f"""
SELECT {columns(NotificationHead, of="n")} FROM unnest($1::text[], $2::uuid[]) AS g(org_id, method)
JOIN notifications n ON n.org_id = g.org_id AND n.contact_method = g.method AND n.state = 'pending'
JOIN pages p ON p.org_id = n.org_id AND p.id = n.page_id AND p.type = ANY($3::text[])
ORDER BY n.id
"""
_PENDING_OF_KIND: Final = """
SELECT n.id FROM notifications n JOIN pages p ON p.id = n.page_id
WHERE n.contact_method = $1 AND n.org_id = $2 AND n.state = 'pending' AND p.type = $3 ORDER BY n.id FOR UPDATE OF n
"""
_REPOINT: Final = """
UPDATE notifications n SET contact_method = g.method, channel = c.channel
FROM unnest($1::uuid[], $2::uuid[]) AS g(id, method)
JOIN contact_methods c ON c.id = g.method AND c.org_id IS NOT DISTINCT FROM $3
WHERE n.id = g.id AND n.org_id IS NOT DISTINCT FROM $3
"""
_CANCEL_NAMED: Final = """
UPDATE notifications n SET state = 'cancelled', state_reason = g.reason, due_time = NULL
FROM unnest($1::uuid[], $2::text[]) AS g(id, reason)
WHERE n.id = g.id AND n.org_id IS NOT DISTINCT FROM $3 AND n.state = 'pending'
"""
_REDRIVE: Final = f"""
WITH judged AS (
  SELECT n.id, {reason_of("f", "n")} AS reason, p.priority FROM notifications n
  JOIN pages p ON p.id = n.page_id AND p.org_id IS NOT DISTINCT FROM n.org_id
  LEFT JOIN cancel_fences f ON f.org_id = n.org_id AND f.incident = n.incident AND {stops("f", "n")}
  WHERE n.id = ANY($1::uuid[]) AND ($2 = '*' OR n.org_id = $2) AND n.state = 'dead' ORDER BY n.id FOR UPDATE OF n
)
UPDATE notifications n SET
  state = CASE WHEN j.reason IS NULL THEN 'pending' ELSE 'cancelled' END,
  state_reason = coalesce(j.reason, 'redriven'),
  due_time = CASE WHEN j.reason IS NULL THEN app_now() END,
  tries = 0, attempt_group = n.attempt_group + 1, priority = j.priority
FROM judged j WHERE n.id = j.id RETURNING n.id, n.state
"""
# Each half is limited before they are joined, so that each is read from its index.
_UPCOMING: Final = f"""
SELECT {columns(Upcoming)} FROM (
  (SELECT id, due_time, priority, false AS message FROM notifications
   WHERE state = 'pending' AND due_time > app_now() AND (due_time, id) > ($1, $2) ORDER BY due_time, id LIMIT $3)
  UNION ALL
  (SELECT id, send_time AS due_time, {NORMAL}::smallint AS priority, true AS message FROM messages
   WHERE state = 'scheduled' AND send_time > app_now() AND (send_time, id) > ($1, $2) ORDER BY send_time, id LIMIT $3)
) AS both_kinds, app_now() AS now ORDER BY due_time, id LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class NewNotification(NotificationHead):
    """One row to make. `delay` in seconds applies to pending ones."""

    channel: Channel
    step: int
    state: State
    reason: str
    delay: float
    outlasts: bool
    """Copied from its page."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How attempt `number` of a notification ended, and the new state: `verdict` is sent, retry (after `delay`) or
    dead.

    `report` is the outcome for escalation if this attempt makes it sent; None when escalation does not wait for it.
    """

    id: UUID
    number: int
    outcome: str
    detail: str
    provider_id: str
    verdict: str
    delay: float
    org_id: str
    report: bytes | None = None


async def insert(tx: Tx, rows: Sequence[NewNotification], lease: float = 0.0, sender: int | None = None) -> set[UUID]:
    """Insert rows, those in state sending with their first attempt; returns the ids of new ones.

    `lease` in seconds and `sender` (`store.delivery.senders`) belong to the attempts.
    """
    given = [
        (
            row.id,
            row.org_id,
            row.page_id,
            row.user_id,
            row.incident,
            row.generation,
            row.priority,
            row.contact_method,
            row.channel,
            row.step,
            row.state,
            row.reason,
            row.delay,
            row.outlasts,
        )
        for row in rows
    ]
    made = await tx.fetch(_INSERT, lease, sender, *_NEW.parameters(given))
    return {row["id"] for row in made}


async def claim(tx: Tx, ids: Sequence[UUID], *, max_tries: int, lease: float, sender: int | None) -> list[Claimed]:
    """Claim rows that are due, free and not stopped, with an attempt row each; every row has its `verdict`.

    sending: ours for `lease` seconds, or until `sender` has died (`store.delivery.senders`). cancelled: stopped instead. unusable
    and exhausted: to be given up by the caller, in this transaction. Run it after the gate's locks are held: its snapshot
    is what the promise of I5 rests on.
    """
    return [Claimed(*row) for row in await tx.fetch(_CLAIM, list(ids), max_tries, lease, sender, _KINDS)]


async def may_start(tx: Tx, attempts: Sequence[tuple[str, UUID, int, int]]) -> set[UUID]:
    """Those of these attempts (tenant, notification, number, `answered` of their claim) that are still the present
    ones, whose lease lasts, that no fence stops, and in whose message, if it is their first, no further page was answered.

    Run it after the gate's locks are held.
    """
    rows = await tx.fetch(_MAY_START, *map(list, zip(*attempts, strict=True)))
    return {row["id"] for row in rows}


async def conclude(tx: Tx, conclusions: Sequence[Conclusion], *, shard: int) -> list[Concluded]:
    """Write the outcomes of attempts; returns a row, with its new `state`, for each notification that was still ours."""
    given = [
        (
            each.id,
            each.number,
            each.outcome,
            each.detail,
            each.provider_id,
            each.verdict,
            each.delay,
            each.report,
            each.org_id,
        )
        for each in conclusions
    ]
    rows = await tx.fetch(_CONCLUDE, shard, *_ENDED.parameters(given))
    return [Concluded(*row) for row in rows]


async def cancel_fenced(tx: Tx, incidents: Sequence[tuple[str, UUID]]) -> tuple[list[UUID], int]:
    """Cancel notifications that are pending or were left by a dead sender, where a fence of these incidents stops them;
    returns the ids, and the number of calls under way."""
    [row] = await tx.fetch(_CANCEL, [org_id for org_id, _ in incidents], [incident for _, incident in incidents])
    return row["cancelled"], row["crossed"]


async def pending_of_method(tx: Tx, method: UUID) -> list[NotificationHead]:
    """The pending notifications of a contact method, locked."""
    return [NotificationHead(*row) for row in await tx.fetch(_PENDING_OF_METHOD, method, tx.org_id)]


async def waiting_for(tx: Tx, methods: Collection[tuple[str, UUID]], kinds: Collection[Kind]) -> list[NotificationHead]:
    """The pending notifications, of pages of these kinds, of these contact methods (tenant, id)."""
    rows = await tx.fetch(_WAITING_FOR, [org for org, _ in methods], [method for _, method in methods], list(kinds))
    return [NotificationHead(*row) for row in rows]


async def pending_of_kind(tx: Tx, method: UUID, kind: str) -> list[UUID]:
    """The pending notifications, of pages of one kind, of a contact method, locked."""
    return [row["id"] for row in await tx.fetch(_PENDING_OF_KIND, method, tx.org_id, kind)]


async def repoint(tx: Tx, methods: dict[UUID, UUID]) -> None:
    """Send these through other methods."""
    await tx.execute(_REPOINT, list(methods), list(methods.values()), tx.org_id)


async def cancel(tx: Tx, reasons: dict[UUID, str]) -> None:
    """Cancel those of these that are pending, with the reason."""
    await tx.execute(_CANCEL_NAMED, list(reasons), list(reasons.values()), tx.org_id)


async def redrive(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Dead ones get new attempts now, or are cancelled if a fence stopped them since; returns the new state of each."""
    return {row["id"]: row["state"] for row in await tx.fetch(_REDRIVE, list(ids), tx.org_id)}


async def upcoming(tx: Tx, after: tuple[datetime, UUID], limit: int) -> list[Upcoming]:
    """Notifications and scheduled messages that are due later, nearest first, after a (due_time, id)."""
    return [Upcoming(*row) for row in await tx.fetch(_UPCOMING, *after, limit)]
