"""Evidence of attempts, and the notifications that it changes."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import OneRoundTrip, Tx

from tocsin_notify.domain.evidence import Receipt
from tocsin_notify.store.contacts.languages import language_of
from tocsin_notify.store.delivery.rows import AnsweredPage, Receipted, Unreceipted
from tocsin_notify.store.pages.fences import reason_of, stops
from tocsin_notify.store.tables import IS_RECEIPTED, NAMES_A_SLACK_MESSAGE

_LOCK: Final = f"""
SELECT n.id, n.org_id, n.page_id, n.user_id, n.incident, n.generation, n.priority, n.contact_method, n.channel, n.state,
  n.tries, a.evidence, p.type, p.job, {reason_of("f", "n")} AS fence_reason,
  EXISTS (SELECT FROM attempts l WHERE l.org_id = n.org_id AND l.notification_id = n.id AND l.number > $3
          AND (l.outcome IN ('started', 'sent') OR l.evidence <> '')) AS outdone
FROM notifications n
JOIN attempts a ON a.org_id = n.org_id AND a.notification_id = n.id AND a.number = $3
JOIN pages p ON p.org_id = n.org_id AND p.id = n.page_id
LEFT JOIN cancel_fences f ON f.org_id = n.org_id AND f.incident = n.incident AND {stops("f", "n")}
WHERE n.org_id = $1 AND n.id = $2 FOR UPDATE OF n
"""
_NOTE: Final = """
UPDATE attempts SET evidence = $4, evidence_time = app_now(), evidence_code = $5,
  provider_id = CASE WHEN provider_id = '' THEN $6 ELSE provider_id END
WHERE org_id = $1 AND notification_id = $2 AND number = $3
"""
_MARK_SENT: Final = """
WITH ended AS (
  UPDATE attempts SET outcome = 'sent', end_time = app_now()
  WHERE org_id = $1 AND notification_id = $2 AND number = $3 AND outcome = 'started'
)
UPDATE notifications SET state = 'sent', due_time = NULL, lease_until = NULL, send_time = app_now(),
  state_reason = coalesce('crossed with: ' || $4, '')
WHERE org_id = $1 AND id = $2 AND state IN ('pending', 'sending', 'cancelled')
"""
_MARK_FAILED: Final = """
UPDATE notifications SET state = 'dead', state_reason = $3, send_time = NULL, receipt_settled = false,
  failed_attempt = attempts
WHERE org_id = $1 AND id = $2 AND state = 'sent'
"""
# Older messages are not waited for any more: receipts may have been switched on since.
_OVERDUE: Final = f"""
SELECT n.id, n.org_id, n.page_id, n.user_id, n.incident, n.generation, n.priority, n.contact_method,
  n.send_time > app_now() - make_interval(secs => $1 + 3600) AND f.reason IS NULL AS matters, p.type
FROM notifications n
JOIN pages p ON p.org_id = n.org_id AND p.id = n.page_id
LEFT JOIN cancel_fences f ON f.org_id = n.org_id AND f.incident = n.incident AND {stops("f", "n")}
WHERE n.state = 'sent' AND n.{IS_RECEIPTED} AND NOT n.receipt_settled
  AND n.send_time <= app_now() - make_interval(secs => $1)
ORDER BY n.send_time LIMIT $2 FOR UPDATE OF n SKIP LOCKED
"""
_PAGE: Final = f"""
SELECT n.page_id, n.user_id, n.incident, a.start_time, a.provider_id, p.type, p.job, app_now() AS now,
  n.state, c.id IS NULL AS gone, {language_of("n")}
FROM notifications n
JOIN attempts a ON a.org_id = n.org_id AND a.notification_id = n.id AND a.number = $3
JOIN pages p ON p.org_id = n.org_id AND p.id = n.page_id
LEFT JOIN contact_methods c ON c.org_id = n.org_id AND c.id = n.contact_method
  AND c.delete_time IS NULL AND NOT c.user_disabled
WHERE n.org_id = $1 AND n.id = $2
"""
# A redrive resets `tries`, but not the numbers of the attempts.
_CALLS_BEFORE: Final = """
SELECT count(*) FROM attempts a JOIN notifications n ON n.org_id = a.org_id AND n.id = a.notification_id
WHERE a.org_id = $1 AND a.notification_id = $2 AND a.number < $3 AND a.number > n.attempts - n.tries AND a.evidence <> ''
"""
# Other providers choose their own names for a message: only those of Slack have this form.
_OF_SLACK_MESSAGE: Final = f"""
SELECT n.org_id, n.id, a.number FROM attempts a
JOIN notifications n ON n.org_id = a.org_id AND n.id = a.notification_id AND n.channel = 'slack'
WHERE a.provider_id = $1 AND a.{NAMES_A_SLACK_MESSAGE} LIMIT 1
"""
_SETTLE: Final = """
UPDATE notifications n SET receipt_settled = true
FROM unnest($1::text[], $2::uuid[]) AS g(org_id, id) WHERE n.org_id = g.org_id AND n.id = g.id
"""


async def overdue(tx: Tx, timeout: float, limit: int) -> list[Unreceipted]:
    """Messages that a provider accepted `timeout` seconds ago without a receipt since, oldest first, locked."""
    return [Unreceipted(**dict(row)) for row in await tx.fetch(_OVERDUE, timeout, limit)]


async def settle(tx: Tx, notifications: Sequence[tuple[str, UUID]]) -> None:
    """Stop waiting for receipts of these (tenant and id)."""
    await tx.execute(_SETTLE, [org_id for org_id, _ in notifications], [id for _, id in notifications])


async def lock(tx: Tx, notification: UUID, attempt: int) -> Receipted | None:
    """The notification, locked, with the evidence of this attempt and the reason why its incident was stopped, if it
    was."""
    row = await tx.fetchrow(_LOCK, tx.org_id, notification, attempt)
    return None if row is None else Receipted(**dict(row))


async def calls_before(tx: Tx, notification: UUID, attempt: int) -> int:
    """How many earlier attempts of the same run have a report of the provider: these were calls."""
    found: int = await tx.fetchval(_CALLS_BEFORE, tx.org_id, notification, attempt)
    return found


async def note(tx: Tx, notification: UUID, attempt: int, receipt: Receipt, *, settles: bool) -> None:
    """Write what is known of the attempt now. `settles`: stop waiting for receipts of its notification."""
    round_trip = OneRoundTrip(tx)
    if settles:
        await settle(round_trip, [(tx.org_id, notification)])
    await round_trip.execute(
        _NOTE, tx.org_id, notification, attempt, receipt.evidence, receipt.code, receipt.provider_id
    )
    await round_trip.send()


async def mark_sent(tx: Tx, notification: UUID, attempt: int, fence: str | None) -> None:
    """The provider accepted it, although its answer was lost, or has not come yet; or although it was stopped since."""
    await tx.execute(_MARK_SENT, tx.org_id, notification, attempt, fence)


async def mark_failed(tx: Tx, notification: UUID, reason: str) -> None:
    """Accepted and not delivered: given up, unless the caller has it retried."""
    await mark_failed_of(tx, tx.org_id, notification, reason)


async def mark_failed_of(tx: Tx, org_id: str, notification: UUID, reason: str) -> None:
    """The same, in a transaction of all tenants."""
    await tx.execute(_MARK_FAILED, org_id, notification, reason)


async def answered_page(tx: Tx, notification: UUID, attempt: int) -> AnsweredPage | None:
    """The page that the attempt was about; None when it is not known here (any more)."""
    row = await tx.fetchrow(_PAGE, tx.org_id, notification, attempt)
    return None if row is None else AnsweredPage(**dict(row))


async def of_slack_message(tx: Tx, channel: str, stamp: str) -> tuple[str, UUID, int] | None:
    """Tenant, notification and number of the attempt that is this message; in a transaction of all tenants."""
    row = await tx.fetchrow(_OF_SLACK_MESSAGE, f"{channel} {stamp}")
    return None if row is None else (row["org_id"], row["id"], row["number"])


async def tenant_of(tx: Tx, notification: UUID) -> str | None:
    """The tenant of it; in a transaction of all tenants."""
    found: str | None = await tx.fetchval("SELECT org_id FROM notifications WHERE id = $1", notification)
    return found
