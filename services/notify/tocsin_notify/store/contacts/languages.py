"""The language that a user has chosen, or their organisation for all of them."""

from tocsin_notify.domain.notification_settings import EVERYBODY


def language_of(row: str) -> str:
    """A column's expression, for a row that has `org_id` and `user_id`; NULL: neither the user nor the organisation has chosen."""
    return f"""(SELECT s.language FROM notification_settings s
     WHERE s.org_id = {row}.org_id AND s.user_id IN ({row}.user_id, '{EVERYBODY}') AND s.language IS NOT NULL
     ORDER BY s.user_id = '{EVERYBODY}' LIMIT 1) AS language"""
