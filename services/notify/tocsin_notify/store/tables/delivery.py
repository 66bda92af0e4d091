"""Notifications, their attempts and their dead letters."""

from typing import Final

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_notify.store.tables.metadata import METADATA

IS_RECEIPTED: Final = "channel IN ('sms', 'voice', 'web_push')"
"""Channels whose provider, or browser, reports that a message was delivered. Statements must use the same expression as
the index, or it is not used."""

NAMES_A_SLACK_MESSAGE: Final = "provider_id LIKE '% %'"
"""Slack's name of a message is a channel and a time. Statements must use the same expression as the index, or it is not
used."""

notifications: Final = Table(
    "notifications",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("page_id", UUID),
    column("user_id", Text),
    column("incident", UUID, nullable=True),
    column("generation", Integer),
    column("priority", SmallInteger),
    column("contact_method", UUID),
    column("channel", Text),
    column("step", Integer),
    column("state", Text),
    column("state_reason", Text, default="''"),
    column("due_time", TIME, nullable=True),
    column("lease_until", TIME, nullable=True),
    column("attempts", Integer, default="0"),
    column("tries", Integer, default="0"),
    column("attempt_group", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("send_time", TIME, nullable=True),
    column("failed_attempt", Integer, default="0"),
    column("receipt_settled", Boolean, default="false"),
    column("followed", Integer, default="0"),
    column("follow_due", TIME, nullable=True),
    column("follow_tries", Integer, default="0"),
    column("outlasts", Boolean, default="false"),
    primary_key("id"),
    UniqueConstraint("page_id", "contact_method", "step", name="notifications_once_per_step"),
    foreign_key(["page_id"], "pages", ["id"], name="notifications_page_fkey", ondelete="CASCADE"),
    check("state IN ('pending', 'sending', 'sent', 'cancelled', 'dead', 'bundled')", name="notifications_state"),
    check("(state = 'pending') = (due_time IS NOT NULL)", name="pending_has_due_time"),
    check("(state = 'sending') = (lease_until IS NOT NULL)", name="sending_has_lease"),
    check("(state = 'sent') = (send_time IS NOT NULL)", name="sent_has_time"),
    check("state <> 'sending' OR (attempts >= 1 AND tries >= 1)", name="sending_has_attempt"),
    index("notifications_claim", "priority", "org_id", "due_time", where="state = 'pending'"),
    index("notifications_due", "due_time", "id", where="state = 'pending'"),
    index("notifications_leases", "lease_until", where="state = 'sending'"),
    index("notifications_live_by_method", "contact_method", where="state = 'pending'"),
    index("notifications_newest", "org_id", "create_time DESC", "id DESC"),
    index("notifications_by_incident", "org_id", "incident", "create_time DESC", "id DESC"),
    index("notifications_by_state", "org_id", "state", "create_time DESC", "id DESC", where="state <> 'sent'"),
    index("notifications_by_user", "org_id", "user_id", "create_time DESC", "id DESC"),
    index(
        "notifications_receipts_due",
        "send_time",
        where=f"state = 'sent' AND {IS_RECEIPTED} AND NOT receipt_settled",
    ),
)
"""The steps of each page: one message to one contact method, due at one time."""

attempts: Final = Table(
    "attempts",
    METADATA,
    column("org_id", Text),
    column("notification_id", UUID),
    column("number", Integer),
    column("start_time", TIME, default=NOW),
    column("end_time", TIME, nullable=True),
    column("outcome", Text, default="'started'"),
    column("detail", Text, default="''"),
    column("provider_id", Text, default="''"),
    column("sender", BigInteger, nullable=True),
    column("evidence", Text, default="''"),
    column("evidence_time", TIME, nullable=True),
    column("evidence_code", Text, default="''"),
    primary_key("notification_id", "number"),
    foreign_key(["notification_id"], "notifications", ["id"], name="attempts_notification_fkey", ondelete="CASCADE"),
    check("outcome IN ('started', 'sent', 'retryable', 'permanent')", name="attempts_outcome"),
    check("(outcome = 'started') = (end_time IS NULL)", name="attempts_end"),
    check("evidence IN ('', 'accepted', 'failed', 'delivered', 'read', 'answered')", name="attempts_evidence"),
    check("(evidence = '') = (evidence_time IS NULL)", name="attempts_evidence_time"),
    index("attempts_by_slack_message", "provider_id", where=NAMES_A_SLACK_MESSAGE),
)
"""Each try to send a notification."""

dead_letters: Final = Table(
    "dead_letters",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("notification_id", UUID, nullable=True),
    column("page_id", UUID, nullable=True),
    column("user_id", Text),
    column("incident", UUID, nullable=True),
    column("reason", Text),
    column("detail", Text),
    column("create_time", TIME, default=NOW),
    column("redrive_time", TIME, nullable=True),
    column("job", LargeBinary, nullable=True),
    column("raw", LargeBinary, nullable=True),
    column("source", Text, nullable=True),
    primary_key("id"),
    UniqueConstraint("source", name="dead_letters_source"),
    check(
        "reason IN ('ATTEMPTS_EXHAUSTED', 'PERMANENT_FAILURE', 'NO_CONTACT_METHOD', 'UNREADABLE_JOB')",
        name="dead_letters_reason",
    ),
    check("(reason = 'UNREADABLE_JOB') = (raw IS NOT NULL)", name="dead_letters_keep_the_job"),
    index("dead_letters_newest", "org_id", "create_time DESC", "id DESC"),
    index("dead_letters_waiting", "org_id", "create_time DESC", "id DESC", where="redrive_time IS NULL"),
    index("dead_letters_oldest", "create_time"),
    index("dead_letters_of_incident", "org_id", "incident", where="redrive_time IS NULL AND incident IS NOT NULL"),
)
"""Messages that could not be read or sent, kept until an operator redrives or discards them."""

queue_counters: Final = Table(
    "queue_counters",
    METADATA,
    column("queue", Text),
    column("shard", SmallInteger),
    column("completed", BigInteger, default="0"),
    column("failed", BigInteger, default="0"),
    primary_key("queue", "shard"),
)
"""Counters of finished tasks, in shards so that senders do not wait for one row."""
