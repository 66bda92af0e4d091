"""Groups of chats that follow who is on call."""

from typing import Final

from sqlalchemy import (
    ARRAY,
    Boolean,
    Integer,
    Table,
    Text,
)
from tocsin_kit.db.tables import NOW, TIME, column, index, primary_key

from tocsin_notify.store.tables.metadata import METADATA

slack_groups: Final = Table(
    "slack_groups",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("schedule", Text),
    column("disable_when_nobody", Boolean),
    column("members", ARRAY(Text), default="'{}'"),
    column("disabled", Boolean, default="false"),
    column("look_time", TIME, default=NOW),
    column("tries", Integer, default="0"),
    column("success_time", TIME, nullable=True),
    column("problem", Text, default="''"),
    column("problem_time", TIME, nullable=True),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    primary_key("org_id", "id"),
    index("slack_groups_of_one_tenant", "id", unique=True),
    index("slack_groups_due", "look_time", "id"),
    index("slack_groups_turns", "org_id", "look_time", "id"),
)
"""Which Slack user group follows which schedule, and the members that Slack was sent last. A group is of one tenant."""
