"""Tables that `tables`, which is long, makes part of the schema."""

from sqlalchemy import UUID, Integer, MetaData, Table, Text
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


def reminders(metadata: MetaData) -> Table:
    """What users are reminded of, once or again and again."""
    return Table(
        "reminders",
        metadata,
        column("id", UUID),
        column("org_id", Text),
        column("incident_id", UUID),
        column("user_id", Text),
        column("text", Text),
        column("every_seconds", Integer, nullable=True),
        column("next_time", TIME, nullable=True),
        column("state", Text, default="'scheduled'"),
        column("state_reason", Text, default="''"),
        column("sent_count", Integer, default="0"),
        column("creator", Text),
        column("create_time", TIME, default=NOW),
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
