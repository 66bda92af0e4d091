"""Contact methods, rules and notification settings of users."""

from typing import Final

from sqlalchemy import (
    UUID,
    Boolean,
    Double,
    Integer,
    LargeBinary,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_notify.store.tables.metadata import METADATA

contact_methods: Final = Table(
    "contact_methods",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("user_id", Text),
    column("display_name", Text),
    column("channel", Text),
    column("address", Text),
    column("secret", LargeBinary, nullable=True),
    column("key_id", Text),
    column("disabled", Boolean),
    column("verify_time", TIME, nullable=True),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    column("delete_time", TIME, nullable=True),
    column("stop_time", TIME, nullable=True),
    column("user_disabled", Boolean, default="false"),
    column("user_change_time", TIME, nullable=True),
    primary_key("id"),
    check("channel ~ '^[a-z][a-z0-9_]{0,31}$'", name="contact_methods_channel"),
    check(
        "CASE WHEN delete_time IS NOT NULL THEN secret IS NULL ELSE channel <> 'webhook' OR secret IS NOT NULL END",
        name="webhook_has_secret",
    ),
    check("delete_time IS NULL OR (address = '' AND verify_time IS NULL)", name="deleted_is_forgotten"),
    index("contact_methods_by_user", "org_id", "user_id", "create_time", "id", where="delete_time IS NULL"),
    index("contact_methods_oldest", "org_id", "create_time", "id", where="delete_time IS NULL"),
    index("contact_methods_by_number", "address", where="channel = 'sms' AND delete_time IS NULL"),
    index("contact_methods_by_slack", "address", where="channel = 'slack' AND delete_time IS NULL"),
    index("contact_methods_deleted", "delete_time", where="delete_time IS NOT NULL"),
    index("contact_methods_of_nobody", "create_time", where="user_id = '' AND delete_time IS NULL"),
)
"""Ways to reach a user. The row of a deleted one stays as long as notifications may name it. One with an empty user
holds the address that a method had before another user changed it, for the notice of that; or the address of a message.
`stop_time`: when its phone sent STOP, which disabled it. `user_disabled`: the last state that escalation sent, at
`user_change_time`."""

rule_sets: Final = Table(
    "rule_sets",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("version", Integer, default="1"),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "user_id"),
)
"""The version of each user's rules, which change as a whole."""

notification_rules: Final = Table(
    "notification_rules",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("position", Integer),
    column("urgency", Text),
    column("contact_method", UUID),
    column("delay_seconds", Double),
    primary_key("org_id", "user_id", "position"),
    foreign_key(
        ["org_id", "user_id"],
        "rule_sets",
        ["org_id", "user_id"],
        name="notification_rules_set_fkey",
        ondelete="CASCADE",
    ),
    foreign_key(["contact_method"], "contact_methods", ["id"], name="notification_rules_method_fkey"),
    check("urgency IN ('high', 'low')", name="notification_rules_urgency"),
    check("delay_seconds BETWEEN 0 AND 86400", name="notification_rules_delay"),
    index("notification_rules_by_method", "contact_method"),
)
"""Which contact method is used how long after a page."""

notification_settings: Final = Table(
    "notification_settings",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("budget_pages", Integer, nullable=True),
    column("budget_window", Double, nullable=True),
    column("version", Integer, default="1"),
    column("update_time", TIME, default=NOW),
    column("quiet_hours", JSONB, nullable=True),
    column("language", Text, nullable=True),
    primary_key("org_id", "user_id"),
    check(
        "budget_pages BETWEEN 0 AND 1000 AND budget_window BETWEEN 1 AND 86400 "
        "AND (budget_pages IS NOT NULL OR budget_window IS NULL)",
        name="notification_settings_budget",
    ),
)
"""How many messages a user wants, when, and in which language; `users/*` is the organisation's choice for all others."""

verifications: Final = Table(
    "verifications",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("contact_method", UUID),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME),
    column("wrong_tries", Integer, default="0"),
    column("done", Boolean, default="false"),
    primary_key("id"),
    foreign_key(["contact_method"], "contact_methods", ["id"], name="verifications_method_fkey", ondelete="CASCADE"),
    check("wrong_tries BETWEEN 0 AND 5", name="verifications_tries"),
    index("verifications_by_method", "contact_method", "create_time DESC"),
    index("verifications_oldest", "create_time"),
)
"""Codes that were sent to prove that a contact method is its user's."""
