"""Tables of answers to pages."""

from typing import Final

from sqlalchemy import (
    UUID,
    Boolean,
    Integer,
    Table,
    Text,
)
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_notify.store.tables.metadata import METADATA

link_uses: Final = Table(
    "link_uses",
    METADATA,
    column("org_id", Text),
    column("page_id", UUID),
    column("turn", Integer),
    column("action", Text),
    column("use_time", TIME, default=NOW),
    column("done", Boolean, default="false"),
    primary_key("org_id", "page_id", "turn"),
    foreign_key(["page_id"], "pages", ["id"], name="link_uses_page_fkey", ondelete="CASCADE"),
    check("action IN ('acknowledge', 'snooze', 'escalate', 'resolve', 'note')", name="link_uses_action"),
    index("link_uses_by_page", "page_id"),
)
"""Links of pages that were used: a link acts once."""

sms_senders: Final = Table(
    "sms_senders",
    METADATA,
    column("number", Text),
    column("answers", Integer, default="0"),
    column("update_time", TIME, default=NOW),
    primary_key("number"),
    index("sms_senders_oldest", "update_time"),
)
"""How many answers a number, or a Slack member (`slack U…`), got to messages that were not understood. They name no
tenant."""

texts_received: Final = Table(
    "texts_received",
    METADATA,
    column("sid", Text),
    column("action", Text, default="''"),
    column("notification_id", UUID, nullable=True),
    column("attempt", Integer, default="0"),
    column("said", Text, default="''"),
    column("create_time", TIME, default=NOW),
    primary_key("sid"),
    check("(action = '') = (notification_id IS NULL)", name="texts_received_action"),
    index("texts_received_oldest", "create_time"),
)
"""Received text messages, by the provider's name for them, with the meaning that was decided. A number names no tenant."""
