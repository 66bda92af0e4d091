"""Reminders, and notices of shifts."""

from typing import Final

from sqlalchemy import (
    UUID,
    Boolean,
    Integer,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_escalation.store.tables.metadata import METADATA

reminders: Final = Table(
    "reminders",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("incident_id", UUID, nullable=True),
    column("user_id", Text),
    column("text", Text),
    column("every_seconds", Integer, nullable=True),
    column("next_time", TIME, nullable=True),
    column("state", Text, default="'scheduled'"),
    column("state_reason", Text, default="''"),
    column("sent_count", Integer, default="0"),
    column("creator", Text),
    column("create_time", TIME, default=NOW),
    column("team_id", Text, nullable=True),
    column("until_resolved", Boolean, default="false"),
    primary_key("id"),
    foreign_key(["incident_id"], "escalations", ["incident_id"], name="reminders_incident_fkey", ondelete="CASCADE"),
    check("state IN ('scheduled', 'done', 'stopped')", name="reminders_state"),
    check("(state = 'scheduled') = (next_time IS NOT NULL)", name="reminders_next"),
    index("reminders_due", "next_time", "id", where="state = 'scheduled'"),
    index("reminders_scheduled", "org_id", where="state = 'scheduled'"),
    index("reminders_oldest", "org_id", "create_time", "id"),
    index("reminders_by_incident", "incident_id", "create_time", "id"),
)
"""Reminders of users, single or repeated."""

shift_notice_choices: Final = Table(
    "shift_notice_choices",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("before_minutes", Integer, nullable=True),
    column("hand_over", Boolean),
    column("week_minute", Integer, nullable=True),
    column("channel", Text),
    column("next_due", TIME, nullable=True),
    column("version", Integer, default="1"),
    column("update_time", TIME, default=NOW),
    column("changes", Boolean, default="false"),
    column("swaps", Boolean, default="false"),
    primary_key("org_id", "user_id"),
    foreign_key(
        ["org_id", "user_id"],
        "users",
        ["org_id", "id"],
        name="shift_notice_choices_user_fkey",
        ondelete="CASCADE",
    ),
    check("before_minutes BETWEEN 5 AND 10080", name="shift_notice_choices_before"),
    check("week_minute BETWEEN 0 AND 10079", name="shift_notice_choices_week"),
    index("shift_notice_choices_due", "next_due", "org_id", "user_id", where="next_due IS NOT NULL"),
    index("shift_notice_choices_changes", "org_id", "user_id", where="changes"),
)
"""The notices of shifts that a user wants. `next_due`: of the nearest planned one."""

known_shifts: Final = Table(
    "known_shifts",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("until", TIME),
    column("stretches", JSONB, comment="By schedule: minutes [start, end) since 1970"),
    column("changed_time", TIME, nullable=True, comment="Since when the schedules say something else"),
    column("version", Integer, default="1"),
    primary_key("org_id", "user_id"),
    foreign_key(
        ["org_id", "user_id"],
        "shift_notice_choices",
        ["org_id", "user_id"],
        name="known_shifts_choice_fkey",
        ondelete="CASCADE",
    ),
)
"""The shifts up to `until` that users know who want to be told of changes."""

shift_notices: Final = Table(
    "shift_notices",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("kind", Text),
    column("schedule_id", Text),
    column("start_time", TIME),
    column("due_time", TIME),
    column("state", Text, default="'planned'"),
    primary_key("org_id", "user_id", "kind", "schedule_id", "start_time"),
    foreign_key(
        ["org_id", "user_id"],
        "shift_notice_choices",
        ["org_id", "user_id"],
        name="shift_notices_choice_fkey",
        ondelete="CASCADE",
    ),
    check("kind IN ('before', 'hand_over', 'week')", name="shift_notices_kind"),
    check("(kind = 'week') = (schedule_id = '')", name="shift_notices_week"),
    check("state IN ('planned', 'sent', 'skipped')", name="shift_notices_state"),
    index("shift_notices_by_due", "org_id", "user_id", "due_time", "kind", "schedule_id", "start_time"),
    index("shift_notices_oldest", "start_time", where="state <> 'planned'"),
)
"""Planned notices of shifts, and those of the last days, so that none is sent twice."""
