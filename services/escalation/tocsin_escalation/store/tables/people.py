"""Users, teams, and the policies that name them."""

from typing import Final

from sqlalchemy import (
    Boolean,
    Integer,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from tocsin_kit.db.tables import NOW, TIME, column, foreign_key, index, primary_key

from tocsin_escalation.store.tables.metadata import METADATA

users: Final = Table(
    "users",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("time_zone", Text),
    column("disabled", Boolean),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
)
"""People who can be paged."""

teams: Final = Table(
    "teams",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("members", ARRAY(Text)),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
)
"""Groups of users that a policy can name."""

policies: Final = Table(
    "policies",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("definition", JSONB),
    column("tenant_fallback", Boolean),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
    index("policies_one_fallback_per_org", "org_id", unique=True, where="tenant_fallback"),
)
"""Whom to page, level after level, and how long each level waits."""

policy_turns: Final = Table(
    "policy_turns",
    METADATA,
    column("org_id", Text),
    column("policy_id", Text),
    column("users", ARRAY(Text), default="'{}'"),
    primary_key("org_id", "policy_id"),
    foreign_key(
        ["org_id", "policy_id"], "policies", ["org_id", "id"], name="policy_turns_policy_fkey", ondelete="CASCADE"
    ),
)
"""Who had a turn at the levels of a policy that page one person after the other; the one of longest ago is first."""
