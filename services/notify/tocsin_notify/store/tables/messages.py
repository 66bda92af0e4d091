"""Messages, digests and templates."""

from typing import Final

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Double,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_notify.store.tables.metadata import METADATA

messages: Final = Table(
    "messages",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("sender", Text),
    column("user_id", Text),
    column("channel", Text, nullable=True),
    column("address", Text, default="''"),
    column("subject", Text),
    column("body", Text),
    column("about", Text),
    column("urgency", Text),
    column("send_time", TIME),
    column("local_time", Text, default="''"),
    column("time_zone", Text, default="''"),
    column("expire_seconds", Double, nullable=True),
    column("state", Text, default="'scheduled'"),
    column("state_reason", Text, default="''"),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    column("parent", UUID, nullable=True),
    column("lease_until", TIME, nullable=True),
    column("tries", Integer, default="0"),
    primary_key("id"),
    check("state IN ('scheduled', 'released', 'cancelled', 'stopped')", name="messages_state"),
    check("urgency IN ('high', 'low')", name="messages_urgency"),
    check("(user_id = '') = (channel IS NOT NULL) AND (channel IS NULL) = (address = '')", name="messages_to"),
    index("messages_due", "send_time", "id", where="state = 'scheduled'"),
    index("messages_scheduled", "org_id", "send_time", "id", where="state = 'scheduled'"),
    index("messages_groups_due", "send_time", "id", where="state = 'scheduled' AND channel = 'group'"),
    index("messages_groups_turns", "org_id", "send_time", "id", where="state = 'scheduled' AND channel = 'group'"),
    index("messages_latest", "org_id", "send_time DESC", "id DESC"),
    index("messages_children", "parent", "id", where="parent IS NOT NULL"),
    index("messages_latest_shown", "org_id", "send_time DESC", "id DESC", where="parent IS NULL"),
    index("messages_oldest", "update_time", where="state <> 'scheduled'"),
)
"""Messages of users and machines. A due one becomes the page of the same id; the notifications of that page show its
state.

A group message becomes messages to its people instead, whose `parent` it is. `lease_until`: until then one replica
works on a due one; after a failed try, no replica does. `tries` counts the tries.
"""

recurring_messages: Final = Table(
    "recurring_messages",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("sender", Text),
    column("user_id", Text),
    column("channel", Text, nullable=True),
    column("address", Text, default="''"),
    column("subject", Text),
    column("body", Text),
    column("about", Text),
    column("urgency", Text),
    column("expire_seconds", Double, nullable=True),
    column("start_time", Text),
    column("time_zone", Text),
    column("rule", Text),
    column("state", Text, default="'active'"),
    column("state_reason", Text, default="''"),
    column("next_time", TIME, nullable=True),
    column("sent_count", Integer, default="0"),
    column("latest_message", UUID, nullable=True),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("id"),
    check("state IN ('active', 'paused', 'ended')", name="recurring_messages_state"),
    check("(state = 'active') = (next_time IS NOT NULL)", name="recurring_messages_next"),
    check("urgency IN ('high', 'low')", name="recurring_messages_urgency"),
    check(
        "(user_id = '') = (channel IS NOT NULL) AND (channel IS NULL) = (address = '')",
        name="recurring_messages_to",
    ),
    index("recurring_messages_due", "next_time", "id", where="state = 'active'"),
    index("recurring_messages_turns", "org_id", "next_time", "id", where="state = 'active'"),
    index("recurring_messages_living", "org_id", where="state <> 'ended'"),
    index("recurring_messages_oldest", "org_id", "create_time", "id"),
    index("recurring_messages_ended", "update_time", where="state = 'ended'"),
)
"""Messages that are sent again and again. Each occurrence becomes a row of `messages`."""

digests: Final = Table(
    "digests",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("frequency", Text),
    column("hour", SmallInteger),
    column("weekday", SmallInteger),
    column("time_zone", Text),
    column("contact_method", UUID, nullable=True),
    column("when_empty", Text),
    column("next_time", TIME),
    column("lease_until", TIME, nullable=True),
    column("latest_time", TIME, nullable=True),
    column("latest_result", Text, default="''"),
    column("latest_page", UUID, nullable=True),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "user_id", "frequency"),
    check("frequency IN ('daily', 'weekly')", name="digests_frequency"),
    check("hour BETWEEN 0 AND 23", name="digests_hour"),
    check("CASE frequency WHEN 'weekly' THEN weekday BETWEEN 1 AND 7 ELSE weekday = 0 END", name="digests_weekday"),
    check("when_empty IN ('nothing', 'one_line')", name="digests_when_empty"),
    index("digests_due", "next_time"),
)
"""Who wants a digest, and how. `lease_until`: until then one replica makes the due digest."""

template_sets: Final = Table(
    "template_sets",
    METADATA,
    column("org_id", Text),
    column("version", BigInteger, default="1"),
    column("live", Boolean, default="true"),
    primary_key("org_id"),
)
"""The version of each tenant's templates, which every replica reads again and again. `live`: the tenant has templates."""

templates: Final = Table(
    "templates",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("type", Text),
    column("language", Text),
    column("subject", Text),
    column("text", Text),
    column("sms", Text),
    column("chat", Text),
    column("voice", Text),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    column("html", Text, default="''"),
    primary_key("id"),
    UniqueConstraint("org_id", "type", "language", name="templates_one_of_each"),
    foreign_key(["org_id"], "template_sets", ["org_id"], name="templates_set_fkey"),
    check("type ~ '^[a-z][a-z0-9_]{0,31}$'", name="templates_type"),
    index("templates_oldest", "org_id", "create_time", "id"),
)
"""Texts of messages. An empty part means the default text; `language` empty: for users of any language."""
