"""Tables that `tables`, which is long, makes part of the schema."""

from sqlalchemy import UUID, BigInteger, Boolean, Date, Integer, LargeBinary, MetaData, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, BIT, JSONB
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key


def event_feeds(metadata: MetaData) -> Table:
    """Tenants whose incident events are handed to notify. A tenant without a row has no subscription."""
    return Table(
        "event_feeds",
        metadata,
        column("org_id", Text),
        column("update_time", TIME, default=NOW),
        primary_key("org_id"),
        index("event_feeds_oldest", "update_time"),
    )


def calendar_imports(metadata: MetaData) -> Table:
    """Layers of schedules whose shifts come from calendars of others."""
    return Table(
        "calendar_imports",
        metadata,
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


def swaps(metadata: MetaData) -> Table:
    """What people offer each other of their time on call."""
    return Table(
        "swaps",
        metadata,
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


def reminders(metadata: MetaData) -> Table:
    """What users are reminded of, once or again and again."""
    return Table(
        "reminders",
        metadata,
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
        primary_key("id"),
        foreign_key(
            ["incident_id"], "escalations", ["incident_id"], name="reminders_incident_fkey", ondelete="CASCADE"
        ),
        check("state IN ('scheduled', 'done', 'stopped')", name="reminders_state"),
        check("(state = 'scheduled') = (next_time IS NOT NULL)", name="reminders_next"),
        index("reminders_due", "next_time", "id", where="state = 'scheduled'"),
        index("reminders_scheduled", "org_id", where="state = 'scheduled'"),
        index("reminders_oldest", "org_id", "create_time", "id"),
        index("reminders_by_incident", "incident_id", "create_time", "id"),
    )


def counting_places(metadata: MetaData) -> Table:
    """How far the timeline of each tenant is counted into figures."""
    return Table(
        "counting_places",
        metadata,
        column("org_id", Text),
        column("server", Text),
        column("since", TIME),
        column("transaction", BigInteger),
        column("id", BigInteger),
        column("count_time", TIME, default=NOW),
        primary_key("org_id"),
    )


def counted_incidents(metadata: MetaData) -> Table:
    """Under what an incident is counted, and what of it is counted already."""
    return Table(
        "counted_incidents",
        metadata,
        column("incident_id", UUID),
        column("org_id", Text),
        column("create_time", TIME),
        column("policy_id", Text),
        column("team", Text),
        column("severity", SmallInteger),
        column("acknowledged", Boolean, default="false"),
        column("resolved", Boolean, default="false"),
        column("exhausted", Boolean, default="false"),
        primary_key("incident_id"),
    )


def incident_figures(metadata: MetaData) -> Table:
    """Of the incidents that were opened in a quarter of an hour. `ended` are those that were resolved in it."""
    counts = ("opened", "acknowledged", "acknowledge_ms", "resolved", "resolve_ms", "exhausted", "ended")
    return Table(
        "incident_figures",
        metadata,
        column("org_id", Text),
        column("quarter", TIME),
        column("policy_id", Text),
        column("team", Text),
        column("severity", SmallInteger),
        *(column(name, BigInteger, default="0") for name in counts),
        primary_key("org_id", "quarter", "policy_id", "team", "severity"),
        index("incident_figures_by_time", "quarter"),
    )


def person_figures(metadata: MetaData) -> Table:
    """Of the pages and acknowledges of a user in a quarter of an hour."""
    return Table(
        "person_figures",
        metadata,
        column("org_id", Text),
        column("quarter", TIME),
        column("user_id", Text),
        column("policy_id", Text),
        column("team", Text),
        column("pages", BigInteger, default="0"),
        column("acknowledged", BigInteger, default="0"),
        primary_key("org_id", "quarter", "user_id", "policy_id", "team"),
        index("person_figures_by_time", "quarter"),
    )


def person_days(metadata: MetaData) -> Table:
    """The same by days of UTC: triggers of `person_figures` keep it."""
    return Table(
        "person_days",
        metadata,
        column("org_id", Text),
        column("day", Date, comment="Of UTC"),
        column("user_id", Text),
        column("policy_id", Text),
        column("team", Text),
        column("pages", BigInteger),
        column("acknowledged", BigInteger),
        column("quarters", BIT(96), comment="Those of the day in which pages were sent"),
        primary_key("org_id", "day", "user_id", "policy_id", "team"),
    )


def shift_notice_choices(metadata: MetaData) -> Table:
    """What notices of shifts a user wants. `next_due`: of the nearest that is planned."""
    return Table(
        "shift_notice_choices",
        metadata,
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


def known_shifts(metadata: MetaData) -> Table:
    """What users who want to be told of changes know of their time on call up to `until`."""
    return Table(
        "known_shifts",
        metadata,
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


def shift_notices(metadata: MetaData) -> Table:
    """Notices of shifts that are planned, and those of the last days, so that none comes twice."""
    return Table(
        "shift_notices",
        metadata,
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
