"""The schema of ingest: the tables as all migrations together leave them.

A migration that changes one changes this file in the same commit; tests/store/test_schema.py compares the two.
"""

from typing import Final

from sqlalchemy import UUID, BigInteger, Boolean, Integer, LargeBinary, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from tocsin_kit.db import tables as kit
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_ingest.store.alert_tables import METADATA, alerts, incidents, of_live_alerts

__all__ = ["METADATA", "alerts", "incidents"]

integrations: Final = Table(
    "integrations",
    METADATA,
    column("org_id", Text),
    column("integration_id", Text),
    column("display_name", Text),
    column("default_policy", Text),
    column(
        "routing_rules",
        LargeBinary,
        comment="tocsin.ingest.v1.Integration with nothing but its routing_rules, mapping, mail and signature",
    ),
    column("version", BigInteger, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    column("source_ranges", ARRAY(Text), default="'{}'"),
    column("auto_resolve_after", INTERVAL, nullable=True),
    column("heartbeat_interval", INTERVAL, nullable=True),
    column("heartbeat_time", TIME, nullable=True),
    column("heartbeat_due_time", TIME, nullable=True),
    column("heartbeat_watch_time", TIME, nullable=True, comment="Not read any more, see intakes; older replicas do"),
    column("heartbeat_missing", Boolean, default="false"),
    column(
        "signature_secret",
        LargeBinary,
        nullable=True,
        comment="What senders sign with, closed by INGEST_SECRET_KEY; null: no signature is needed",
    ),
    primary_key("org_id", "integration_id"),
    check("display_name <> ''"),
    check("version > 0"),
    check(
        "(heartbeat_interval IS NULL) = (heartbeat_due_time IS NULL)"
        " AND (heartbeat_interval IS NULL) = (heartbeat_watch_time IS NULL)"
        " AND (heartbeat_interval IS NOT NULL OR NOT heartbeat_missing)",
        name="integrations_heartbeat",
    ),
    index("integrations_auto_resolve", "org_id", where="auto_resolve_after IS NOT NULL"),
    index(
        "integrations_heartbeats",
        "org_id",
        "heartbeat_due_time",
        where="heartbeat_interval IS NOT NULL AND NOT heartbeat_missing",
    ),
)
"""Where alerts come from, and how they are routed."""

integration_keys: Final = Table(
    "integration_keys",
    METADATA,
    column("key_hash", LargeBinary, comment="SHA-256 of the key: 32 random bytes need no slow hash"),
    column("org_id", Text),
    column("integration_id", Text),
    column("prefix", Text),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME, nullable=True),
    column(
        "mail_hash",
        LargeBinary,
        nullable=True,
        comment="SHA-256 of the word in its mail address; null: the key is older than those",
    ),
    primary_key("key_hash"),
    foreign_key(["org_id", "integration_id"], "integrations", ["org_id", "integration_id"], ondelete="CASCADE"),
    check("length(key_hash) = 32"),
    index("integration_keys_of_integration", "org_id", "integration_id"),
    index("integration_keys_by_mail", "mail_hash", unique=True, where="mail_hash IS NOT NULL"),
    index("integration_keys_one_current", "org_id", "integration_id", unique=True, where="expire_time IS NULL"),
)
"""Hashes of the keys that senders present."""

ended_firings: Final = Table(
    "ended_firings",
    METADATA,
    column("key", UUID, comment="alerts.key: the hash of tenant, integration and dedup key"),
    column("org_id", Text),
    column("start_time", TIME, comment="By the sender's clock; end_time is by ours"),
    column("end_time", TIME, default=NOW),
    primary_key("key"),
    index("ended_firings_by_end_time", "end_time"),
)
"""The last firing of each key that ended: a repeat that comes late does not open it again."""

refused_alerts: Final = Table(
    "refused_alerts",
    METADATA,
    column("org_id", Text),
    column("integration_id", Text),
    column("refused", BigInteger, comment="Since report_time"),
    column("reason", Text),
    column("report_time", TIME, nullable=True),
    primary_key("org_id", "integration_id"),
    check("refused >= 0"),
    index("refused_alerts_by_report_time", "report_time"),
)
"""How many alerts of an integration were refused since it was last told."""

intakes: Final = Table(
    "intakes",
    METADATA,
    column("org_id", Text, comment="*: the row of the whole service, which every replica that serves renews"),
    column(
        "integration_id",
        Text,
        comment="Empty: any of the tenant, of a call that was refused before it named one",
    ),
    column(
        "since",
        TIME,
        comment="Alerts could be taken from then on; of a tenant: a limit refused one at that time",
    ),
    column("renew_time", TIME),
    primary_key("org_id", "integration_id"),
    index("intakes_refused", "since", where="org_id <> '*'"),
    postgresql_with={"fillfactor": 50},
)
"""Since when alerts could be taken: what an outage or a limit kept out does not count as the sender's silence."""

silences: Final = Table(
    "silences",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("integration_id", Text, comment="Empty: alerts of any. No foreign key: a silence outlives it"),
    column("matchers", LargeBinary, comment="tocsin.ingest.v1.Silence with nothing but its matchers"),
    column("start_time", TIME),
    column("end_time", TIME),
    column("reason", Text),
    column("author", Text),
    column("version", BigInteger, default="1"),
    column("changed", Boolean, default="false", comment="The alerts that it holds back are to be looked at again"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    column(
        "time_zone", Text, default="''", comment="Empty: it does not come again, and holds from start_time to end_time"
    ),
    column(
        "days",
        ARRAY(SmallInteger),
        default="'{}'",
        comment="Of the week, on which windows begin, Monday is 1; none: every day",
    ),
    column("window_end", TIME, nullable=True, comment="Of the first window, of one that comes again"),
    primary_key("org_id", "id"),
    check("(time_zone = '') = (window_end IS NULL)", name="silences_recurring"),
    check("reason <> ''"),
    check("version > 0"),
    check("start_time <= end_time", name="silences_order"),
    index("silences_by_end", "org_id", "end_time", "id"),
    index("silences_ended", "end_time"),
    index("silences_changed", "org_id", "id", where="changed"),
)
"""For how long which alerts page nobody."""

silence_counts: Final = Table(
    "silence_counts",
    METADATA,
    column("org_id", Text),
    column("silence_id", UUID),
    column("alerts", BigInteger),
    column("messages", BigInteger),
    primary_key("org_id", "silence_id"),
    foreign_key(
        ["org_id", "silence_id"], "silences", ["org_id", "id"], name="silence_counts_silence", ondelete="CASCADE"
    ),
    check("alerts >= 0"),
    check("messages >= 0"),
    postgresql_with={"fillfactor": 50},
)
"""How much each silence has held back. Apart from the silence, since alerts lock that row."""

alert_holds: Final = Table(
    "alert_holds",
    METADATA,
    column("alert_id", UUID),
    column("org_id", Text),
    column("silence_id", UUID),
    column("due_time", TIME, comment="When the alert is looked at again"),
    column(
        "labels",
        LargeBinary,
        nullable=True,
        comment="tocsin.ingest.v1.AlertInput with nothing but its labels as they came; null: alerts.newest has them whole",
    ),
    primary_key("alert_id"),
    index("alert_holds_due", "org_id", "due_time"),
    index("alert_holds_of_silence_due", "org_id", "silence_id", "due_time"),
)
"""Suppressed alerts that a silence holds back. Without such a row it is a routing rule that suppresses an alert."""
of_live_alerts(alert_holds)

alert_pauses: Final = Table(
    "alert_pauses",
    METADATA,
    column("alert_id", UUID),
    column("org_id", Text),
    column("due_time", TIME, comment="When the pause is over"),
    column(
        "labels",
        LargeBinary,
        nullable=True,
        comment="tocsin.ingest.v1.AlertInput with nothing but its labels as they came; null: alerts.newest has them whole",
    ),
    primary_key("alert_id"),
    index("alert_pauses_due", "org_id", "due_time"),
)
"""Alerts that their routing rule pauses. A row of one that fires meanwhile may stay until it is due."""
of_live_alerts(alert_pauses)

alert_thresholds: Final = Table(
    "alert_thresholds",
    METADATA,
    column("alert_id", UUID),
    column("org_id", Text),
    column("group_key", UUID, comment="incidents.group_key of the incident that it waits for"),
    column("count", Integer, comment="So many triggers of the group open it"),
    column("lasts", INTERVAL, comment="Within so long"),
    column(
        "labels",
        LargeBinary,
        nullable=True,
        comment="tocsin.ingest.v1.AlertInput with nothing but its labels as they came; null: alerts.newest has them whole",
    ),
    primary_key("alert_id"),
    index("alert_thresholds_of_group", "group_key", "alert_id"),
)
"""Alerts whose group is below the threshold of their routing rule."""
of_live_alerts(alert_thresholds)

group_triggers: Final = Table(
    "group_triggers",
    METADATA,
    column("group_key", UUID),
    column("time", TIME, comment="Of the first of them; a hundredth of the window has one row at most"),
    column("org_id", Text),
    column("count", Integer),
    column("end_time", TIME, comment="When the window has left them behind"),
    primary_key("group_key", "time"),
    check("count > 0"),
    index("group_triggers_ended", "end_time"),
    postgresql_with={"fillfactor": 50},
)
"""How many triggers of a group have come, while it is below the threshold of its routing rule."""

alert_endings: Final = Table(
    "alert_endings",
    METADATA,
    column("alert_id", UUID),
    column("org_id", Text),
    column("end_time", TIME, comment="When it is over"),
    column("lasts", INTERVAL, comment="From its newest trigger to end_time"),
    column("named", Boolean, comment="Its sender named the end; otherwise it is waited for"),
    primary_key("alert_id"),
    index("alert_endings_due", "org_id", "end_time"),
)
"""When alerts are over that their sender does not send again."""
of_live_alerts(alert_endings)

mail_threads: Final = Table(
    "mail_threads",
    METADATA,
    column("org_id", Text),
    column("integration_id", Text),
    column("message_hash", LargeBinary, comment="Of its Message-ID"),
    column("dedup_key", Text),
    column("create_time", TIME, default=NOW),
    primary_key("org_id", "integration_id", "message_hash"),
    foreign_key(
        ["org_id", "integration_id"],
        "integrations",
        ["org_id", "integration_id"],
        name="mail_threads_integration",
        ondelete="CASCADE",
    ),
    index("mail_threads_by_time", "create_time"),
)
"""Which alerts the mails were about that were taken lately."""

outbox: Final = kit.outbox(METADATA)
requests: Final = kit.requests(METADATA)
audit_entries: Final = kit.audit_entries(METADATA)
audit_resources: Final = kit.audit_resources(METADATA)
tenant_limits: Final = kit.tenant_limits(METADATA)
