"""Schedules, and plans beside their turns."""

from typing import Final

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Identity,
    Integer,
    LargeBinary,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_escalation.store.tables.metadata import METADATA

schedules: Final = Table(
    "schedules",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("description", Text),
    column("time_zone", Text),
    column("stand_in", Boolean),
    column("layers", JSONB),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
)
"""Who is on call when: layers of turns."""

schedule_overrides: Final = Table(
    "schedule_overrides",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("schedule_id", Text),
    column("start_time", TIME),
    column("end_time", TIME),
    column("scope", Text),
    column("replaced", Text),
    column("users", ARRAY(Text)),
    column("reason", Text),
    column("author", Text),
    column("ordinal", BigInteger, Identity(always=True)),
    column("create_time", TIME, default=NOW),
    column("swap_id", UUID, nullable=True),
    primary_key("org_id", "id"),
    foreign_key(
        ["org_id", "schedule_id"],
        "schedules",
        ["org_id", "id"],
        name="schedule_overrides_schedule_fkey",
        ondelete="CASCADE",
    ),
    check("scope IN ('schedule', 'layer', 'person', 'beside')", name="schedule_overrides_scope"),
    check("start_time < end_time", name="schedule_overrides_order"),
    index("schedule_overrides_by_schedule", "org_id", "schedule_id", "end_time"),
    index("schedule_overrides_by_end", "org_id", "end_time", "id"),
)
"""Changes of a schedule for a time. Of two that overlap, the one with the higher ordinal counts."""

absences: Final = Table(
    "absences",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("user_id", Text),
    column("start_time", TIME),
    column("end_time", TIME),
    column("reason", Text),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    primary_key("org_id", "id"),
    check("start_time < end_time", name="absences_order"),
    index("absences_by_user", "org_id", "user_id", "end_time"),
    index("absences_by_end", "org_id", "end_time", "id"),
)
"""When people are away."""

fixed_periods: Final = Table(
    "fixed_periods",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("schedule_id", Text),
    column("start_time", TIME),
    column("end_time", TIME),
    column("shifts", JSONB),
    column("reason", Text),
    column("author", Text),
    column("ordinal", BigInteger, Identity(always=True)),
    column("create_time", TIME, default=NOW),
    primary_key("org_id", "id"),
    foreign_key(
        ["org_id", "schedule_id"], "schedules", ["org_id", "id"], name="fixed_periods_schedule_fkey", ondelete="CASCADE"
    ),
    check("start_time < end_time", name="fixed_periods_order"),
    index("fixed_periods_by_schedule", "org_id", "schedule_id", "end_time"),
    index("fixed_periods_by_end", "org_id", "end_time", "id"),
)
"""Periods in which the shifts of a schedule are listed one by one."""

calendar_feeds: Final = Table(
    "calendar_feeds",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("user_id", Text),
    column("schedule_id", Text),
    column("display_name", Text),
    column("secret_hash", LargeBinary, comment="SHA-256 of the secret: 32 random bytes need no slow hash"),
    column("prefix", Text),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    column("last_fetch_time", TIME, nullable=True),
    column(
        "events",
        JSONB,
        default="'[]'",
        comment="What the feed has shown, so that it can cancel what is not true any more",
    ),
    column("events_version", BigInteger, default="0"),
    primary_key("org_id", "id"),
    check("length(secret_hash) = 32"),
    check("(user_id = '') <> (schedule_id = '')", name="calendar_feeds_about"),
    index("calendar_feeds_by_secret", "secret_hash", unique=True),
    index("calendar_feeds_by_time", "org_id", "create_time", "id"),
)
"""Secret URLs at which calendar programs read shifts, and the events they were shown."""

calendar_imports: Final = Table(
    "calendar_imports",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("schedule_id", Text),
    column("display_name", Text),
    column("url", LargeBinary, comment="Encrypted: who knows it can read the calendar"),
    column("host", Text),
    column("time_zone", Text),
    column("rank", Integer),
    column("mode", Text),
    column("names", JSONB),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    column("due_time", TIME, default=NOW),
    column("fetch_time", TIME, nullable=True),
    column("read_time", TIME, nullable=True),
    column("error", Text, default="''"),
    column("shifts", JSONB, default="'[]'", comment="Of the last time that the calendar could be read"),
    column("cut", Boolean, default="false"),
    column("unmatched", ARRAY(Text), default="'{}'"),
    column("version", Integer, default="1"),
    primary_key("org_id", "id"),
    foreign_key(
        ["org_id", "schedule_id"],
        "schedules",
        ["org_id", "id"],
        name="calendar_imports_schedule_fkey",
        ondelete="CASCADE",
    ),
    check("mode IN ('mask', 'add')", name="calendar_imports_mode"),
    index("calendar_imports_by_schedule", "org_id", "schedule_id"),
    index("calendar_imports_due", "due_time"),
)
"""Layers of schedules whose shifts come from external calendars."""

swaps: Final = Table(
    "swaps",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("schedule_id", Text),
    column("user_id", Text),
    column("start_time", TIME),
    column("end_time", TIME),
    column("return_start_time", TIME, nullable=True),
    column("return_end_time", TIME, nullable=True),
    column("offered_to", ARRAY(Text)),
    column("reason", Text),
    column("author", Text),
    column("state", Text, default="'offered'"),
    column("accepted_by", Text, default="''"),
    column("declined_by", ARRAY(Text), default="'{}'"),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
    foreign_key(
        ["org_id", "schedule_id"], "schedules", ["org_id", "id"], name="swaps_schedule_fkey", ondelete="CASCADE"
    ),
    check("start_time < end_time", name="swaps_order"),
    check("return_start_time < return_end_time", name="swaps_return"),
    check("state IN ('offered', 'accepted', 'declined', 'withdrawn')", name="swaps_state"),
    check("(state = 'accepted') = (accepted_by <> '')", name="swaps_accepted"),
    index("swaps_by_user", "org_id", "user_id", "end_time"),
    index("swaps_by_schedule", "org_id", "schedule_id"),
    index("swaps_by_end", "org_id", "end_time", "id"),
)
"""Swaps: offers of users to exchange time on call."""
