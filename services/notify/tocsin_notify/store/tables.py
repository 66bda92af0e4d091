"""The schema of notify: the tables as all migrations together leave them.

A migration that changes one changes this file in the same commit; tests/store/test_schema.py compares the two.
"""

from typing import Final

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from tocsin_kit.db import tables as kit
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_notify.store import message_tables, pace_tables, subscription_tables, template_tables

METADATA: Final = MetaData()

contact_methods: Final = Table(
    "contact_methods",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("user_id", Text),
    column("display_name", Text),
    column("channel", Text),
    column("address", Text),
    column("secret", LargeBinary, nullable=True),
    column("key_id", Text),
    column("disabled", Boolean),
    column("verify_time", TIME, nullable=True),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    column("delete_time", TIME, nullable=True),
    column("stop_time", TIME, nullable=True),
    column("user_disabled", Boolean, default="false"),
    column("user_change_time", TIME, nullable=True),
    primary_key("id"),
    check("channel ~ '^[a-z][a-z0-9_]{0,31}$'", name="contact_methods_channel"),
    check(
        "CASE WHEN delete_time IS NOT NULL THEN secret IS NULL ELSE channel <> 'webhook' OR secret IS NOT NULL END",
        name="webhook_has_secret",
    ),
    check("delete_time IS NULL OR (address = '' AND verify_time IS NULL)", name="deleted_is_forgotten"),
    index("contact_methods_by_user", "org_id", "user_id", "create_time", "id", where="delete_time IS NULL"),
    index("contact_methods_oldest", "org_id", "create_time", "id", where="delete_time IS NULL"),
    index("contact_methods_by_number", "address", where="channel = 'sms' AND delete_time IS NULL"),
    index("contact_methods_by_slack", "address", where="channel = 'slack' AND delete_time IS NULL"),
    index("contact_methods_deleted", "delete_time", where="delete_time IS NOT NULL"),
    index("contact_methods_of_nobody", "create_time", where="user_id = '' AND delete_time IS NULL"),
)
"""Ways to reach a user. The row of a deleted one stays as long as notifications that name it may. One of nobody (an empty user) is
where a method led before another user changed it, for the notice of that, or the address of a message. `stop_time`: when its
phone said STOP, which disabled it. `user_disabled`: as escalation told it last, of `user_change_time`."""

rule_sets: Final = Table(
    "rule_sets",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("version", Integer, default="1"),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "user_id"),
)
"""The version of each user's rules, which change as a whole."""

notification_rules: Final = Table(
    "notification_rules",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("position", Integer),
    column("urgency", Text),
    column("contact_method", UUID),
    column("delay_seconds", Double),
    primary_key("org_id", "user_id", "position"),
    foreign_key(
        ["org_id", "user_id"],
        "rule_sets",
        ["org_id", "user_id"],
        name="notification_rules_set_fkey",
        ondelete="CASCADE",
    ),
    foreign_key(["contact_method"], "contact_methods", ["id"], name="notification_rules_method_fkey"),
    check("urgency IN ('high', 'low')", name="notification_rules_urgency"),
    check("delay_seconds BETWEEN 0 AND 86400", name="notification_rules_delay"),
    index("notification_rules_by_method", "contact_method"),
)
"""Which contact method is used how long after a page."""

notification_settings: Final = pace_tables.notification_settings(METADATA)

verifications: Final = Table(
    "verifications",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("contact_method", UUID),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME),
    column("wrong_tries", Integer, default="0"),
    column("done", Boolean, default="false"),
    primary_key("id"),
    foreign_key(["contact_method"], "contact_methods", ["id"], name="verifications_method_fkey", ondelete="CASCADE"),
    check("wrong_tries BETWEEN 0 AND 5", name="verifications_tries"),
    index("verifications_by_method", "contact_method", "create_time DESC"),
    index("verifications_oldest", "create_time"),
)
"""Codes that were sent to prove that a contact method is its user's."""

pages: Final = Table(
    "pages",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("user_id", Text),
    column("incident", UUID, nullable=True),
    column("type", Text),
    column("urgency", Text),
    column("priority", SmallInteger),
    column("level", Integer),
    column("repeat", Integer),
    column("generation", Integer),
    column("planned_time", TIME, nullable=True),
    column("channel_override", Text, nullable=True),
    column("only_method", UUID, nullable=True),
    column("job", LargeBinary),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME, nullable=True),
    column("outlasts", Boolean, default="false"),
    primary_key("id"),
    check(
        "type IN ('new_incident', 'escalation', 'acknowledgment', 'resolution', 'test', 'verification', 'urgency_raised', "
        "'contact_changed', 'message', 'bundle', 'digest')",
        name="pages_type",
    ),
    check(
        "type = 'message' OR (incident IS NULL) = (type IN ('test', 'verification', 'contact_changed', 'digest'))",
        name="pages_incident",
    ),
    check("priority IN (0, 1)", name="pages_priority"),
    index("pages_oldest", "create_time"),
)
"""Wishes of escalation to reach a user, each with the job as it came."""

IS_RECEIPTED: Final = "channel IN ('sms', 'voice', 'web_push')"
"""Those whose provider, or browser, tells that a message arrived. Statements say it like the index, or it does not serve them."""

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
)
"""Each try to send a notification."""

cancel_fences: Final = Table(
    "cancel_fences",
    METADATA,
    column("org_id", Text),
    column("incident", UUID),
    column("generation", Integer),
    column("reason", Text),
    column("update_time", TIME, default=NOW),
    column("followed", Boolean, default="true"),
    column("final_generation", Integer, nullable=True),
    primary_key("org_id", "incident"),
    index("cancel_fences_oldest", "update_time"),
    index("cancel_fences_to_follow", "update_time", where="NOT followed"),
    index("cancel_fences_open_by_org", "org_id", "update_time", where="NOT followed"),
)
"""Incidents that were stopped: pages up to this generation are not sent."""

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
"""What could not be read or sent, kept until an operator redrives or discards it."""

queue_counters: Final = Table(
    "queue_counters",
    METADATA,
    column("queue", Text),
    column("shard", SmallInteger),
    column("completed", BigInteger, default="0"),
    column("failed", BigInteger, default="0"),
    primary_key("queue", "shard"),
)
"""What the queue finished, in shards so that senders do not wait for one row."""

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

messages: Final = message_tables.messages(METADATA)

recurring_messages: Final = message_tables.recurring_messages(METADATA)

digests: Final = message_tables.digests(METADATA)

slack_groups: Final = message_tables.slack_groups(METADATA)

sms_senders: Final = Table(
    "sms_senders",
    METADATA,
    column("number", Text),
    column("answers", Integer, default="0"),
    column("update_time", TIME, default=NOW),
    primary_key("number"),
    index("sms_senders_oldest", "update_time"),
)
"""How often a number was answered that said what means nothing here. A number names no tenant."""

paces: Final = pace_tables.paces(METADATA)

quiet_bundles: Final = pace_tables.quiet_bundles(METADATA)

bundle_pages: Final = pace_tables.bundle_pages(METADATA)

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
"""Text messages that came in, by the provider's name for them, with what each was taken to mean. A number names no tenant."""
subscription_tables.add_to(METADATA)
template_sets: Final = template_tables.template_sets(METADATA)
templates: Final = template_tables.templates(METADATA)
outbox: Final = kit.outbox(METADATA)
requests: Final = kit.requests(METADATA)
audit_entries: Final = kit.audit_entries(METADATA)
audit_resources: Final = kit.audit_resources(METADATA)
tenant_limits: Final = kit.tenant_limits(METADATA)
queue_pauses: Final = kit.queue_pauses(METADATA)
queue_options: Final = kit.queue_options(METADATA)
