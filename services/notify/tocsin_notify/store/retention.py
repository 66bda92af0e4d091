"""Deletes old rows, a few at a time."""

from typing import Final

from tocsin_kit.db.pool import Tx


def _older(table: str, column: str, *, only: str = "true") -> str:
    """Deletes the rows of a table, restricted by `only`, whose time in `column` is old."""
    return f"""DELETE FROM {table} WHERE ctid IN (
  SELECT ctid FROM {table} WHERE {only} AND {column} < app_now() - make_interval(secs => $1)
  ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED)"""


STATEMENTS: Final = {
    # Notifications and attempts are deleted with their page. A page with a pending notification is never too old.
    "pages": """DELETE FROM pages WHERE id IN (
  SELECT p.id FROM pages p WHERE p.create_time < app_now() - make_interval(secs => $1)
    AND NOT EXISTS (SELECT FROM notifications n WHERE n.page_id = p.id AND n.state IN ('pending', 'sending'))
  ORDER BY p.create_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
    # Without its fence, a redriven dead letter would page for an incident that is over.
    "cancel_fences": """DELETE FROM cancel_fences WHERE ctid IN (
  SELECT f.ctid FROM cancel_fences f WHERE f.update_time < app_now() - make_interval(secs => $1)
    AND NOT EXISTS (SELECT FROM dead_letters d
                    WHERE d.org_id = f.org_id AND d.incident = f.incident AND d.redrive_time IS NULL)
  ORDER BY f.update_time LIMIT $2 FOR UPDATE OF f SKIP LOCKED)""",
    "dead_letters": _older("dead_letters", "create_time"),
    "verifications": _older("verifications", "create_time"),
    "sms_senders": _older("sms_senders", "update_time"),
    "paces": _older("paces", "update_time", only="bundle IS NULL"),
    "texts_received": _older("texts_received", "create_time"),
    # Attempts are deleted with their delivery.
    "event_deliveries": _older("event_deliveries", "end_time"),
    "messages": _older("messages", "update_time", only="state <> 'scheduled'"),
    "recurring_messages": _older("recurring_messages", "update_time", only="state = 'ended'"),
    # Former addresses of methods, and addresses of messages. Marked as deleted: notifications name the row.
    "contact_methods": """UPDATE contact_methods SET delete_time = app_now(), address = '', secret = NULL, key_id = ''
WHERE id IN (
  SELECT id FROM contact_methods
  WHERE user_id = '' AND delete_time IS NULL AND create_time < app_now() - make_interval(secs => $1)
    AND NOT EXISTS (SELECT FROM notifications n WHERE n.contact_method = contact_methods.id AND n.state = 'pending')
  ORDER BY create_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
    # All pages were made after its deletion, so no notification names it; no constraint of the schema guarantees that.
    # A submit that read it before may store one a moment later.
    "deleted_contact_methods": """DELETE FROM contact_methods WHERE id IN (
  SELECT id FROM contact_methods
  WHERE delete_time IS NOT NULL AND delete_time < app_now() - make_interval(secs => $1)
    AND NOT EXISTS (SELECT FROM pages p WHERE p.create_time <= contact_methods.delete_time + interval '1 hour')
    AND NOT EXISTS (SELECT FROM notification_rules r WHERE r.contact_method = contact_methods.id)
  ORDER BY delete_time LIMIT $2 FOR UPDATE SKIP LOCKED)""",
}
"""By the kind of row, in the order in which they run: all tenants, oldest first."""


async def delete_old(tx: Tx, limit: int, *, statement: str, seconds: float) -> int:
    """Runs one of `STATEMENTS`; how many rows older than `seconds` it deleted or emptied, at most `limit`."""
    return int((await tx.execute(statement, seconds, limit)).rpartition(" ")[2])
