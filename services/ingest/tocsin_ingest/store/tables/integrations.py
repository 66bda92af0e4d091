"""Integrations: where alerts come from."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_ingest.store.tables.metadata import METADATA

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
    column("refused", BigInteger, default="0", comment="Of a tenant: alerts that limits refused since report_time"),
    column("reason", Text, default="''"),
    column("report_time", TIME, nullable=True),
    primary_key("org_id", "integration_id"),
    check("refused >= 0"),
    index("intakes_refused", "since", where="org_id <> '*'"),
    index("intakes_untold", "report_time", where="refused > 0"),
    postgresql_with={"fillfactor": 50},
)
"""Since when alerts could be taken: what an outage or a limit kept out does not count as the sender's silence."""

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
