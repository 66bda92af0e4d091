"""The tables of messages and digests: what is sent once, or again and again. `tables.py` has them all."""

from sqlalchemy import ARRAY, UUID, Boolean, Double, Integer, MetaData, SmallInteger, Table, Text
from tocsin_kit.db.tables import NOW, TIME, check, column, index, primary_key


def messages(metadata: MetaData) -> Table:
    """Messages of users and machines. One that is due becomes the page of the same id; its notifications tell what comes of it.

    A group message becomes messages of its people instead, whose `parent` it is. `lease_until`: until then a replica works on
    one that is due, or nobody does, after `tries` that failed.
    """
    return Table(
        "messages",
        metadata,
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
        index("messages_latest", "org_id", "send_time DESC", "id DESC"),
        index("messages_children", "parent", "id", where="parent IS NOT NULL"),
        index("messages_latest_shown", "org_id", "send_time DESC", "id DESC", where="parent IS NULL"),
        index("messages_oldest", "update_time", where="state <> 'scheduled'"),
    )


def recurring_messages(metadata: MetaData) -> Table:
    """Messages that are sent again and again. Each occurrence becomes a row of `messages`."""
    return Table(
        "recurring_messages",
        metadata,
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
        index("recurring_messages_living", "org_id", where="state <> 'ended'"),
        index("recurring_messages_oldest", "org_id", "create_time", "id"),
        index("recurring_messages_ended", "update_time", where="state = 'ended'"),
    )


def digests(metadata: MetaData) -> Table:
    """Who wants a digest, and how. `lease_until`: until then a replica makes the one that is due."""
    return Table(
        "digests",
        metadata,
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


def slack_groups(metadata: MetaData) -> Table:
    """Which user group of Slack follows which schedule, and what it was told last. A group is of one tenant."""
    return Table(
        "slack_groups",
        metadata,
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
        index("slack_groups_due", "look_time"),
    )
