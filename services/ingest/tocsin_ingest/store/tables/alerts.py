"""The tables of alerts and incidents.

Each is in two: the live rows in a small part, the closed ones in another one, partitioned by when they were closed. A row moves
from one to the other by the statement that closes it, and code names the tables alone. What it says of the state leads to the
live part, so that nothing that has to be quick grows with the history. `tocsin_kit.db.partitions` makes and drops partitions.
"""

from typing import Final

from sqlalchemy import UUID, BigInteger, Boolean, Integer, LargeBinary, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import INTERVAL
from tocsin_kit.db.tables import NOW, TIME, also, check, column, index, primary_key

from tocsin_ingest.store.tables.metadata import METADATA

also(METADATA, "CREATE SCHEMA parts")

incidents: Final = Table(
    "incidents",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("integration_id", Text, comment="Empty: none. No foreign key: incidents outlive it"),
    column(
        "group_key",
        UUID,
        comment="Hash of tenant, integration and what its alerts agree in; its own id: no alert joins it any more",
    ),
    column("state", Text),
    column("severity", SmallInteger),
    column("policy", Text),
    column("title", Text),
    column("first_alert", LargeBinary, comment="tocsin.ingest.v1.AlertInput that opened it"),
    column("alert_count", BigInteger),
    column("firing_count", BigInteger),
    column("event_sequence", BigInteger),
    column("create_time", TIME, default=NOW),
    column("resolve_time", TIME, nullable=True),
    column("resolved_by", Text, nullable=True),
    column(
        "count_waits_since",
        TIME,
        nullable=True,
        comment="Since when an event waits whose delivery reads alert_count; null: none does",
    ),
    column("last_join_time", TIME, default=NOW, comment="When an alert opened or joined it for the last time"),
    check("severity > 0"),
    check("title <> ''"),
    check("alert_count > 0"),
    check("event_sequence > 0"),
    check("state IN ('open', 'resolved')", name="incidents_state"),
    check("firing_count >= 0 AND (state = 'open') = (firing_count > 0)", name="incidents_open_while_firing"),
    check(
        "(state = 'resolved') = (resolve_time IS NOT NULL) AND (state = 'resolved') = (resolved_by IS NOT NULL)",
        name="incidents_resolved_when_and_by",
    ),
    postgresql_partition_by="LIST (state)",
)
"""What people must react to. Open while at least one of its alerts fires."""
also(
    incidents,
    "CREATE TABLE parts.incidents_open PARTITION OF incidents (PRIMARY KEY (id)) DEFAULT"
    " WITH (fillfactor = 80, vacuum_truncate = off)",
    "CREATE UNIQUE INDEX incidents_one_open_per_group ON parts.incidents_open (group_key)",
    "CREATE TABLE parts.incidents_resolved PARTITION OF incidents FOR VALUES IN ('resolved')"
    " PARTITION BY RANGE (resolve_time)",
    "CREATE TABLE parts.incidents_rest PARTITION OF parts.incidents_resolved (PRIMARY KEY (id)) DEFAULT",
    "CREATE INDEX incidents_rest_by_resolve_time ON parts.incidents_rest (resolve_time)",
)

alerts: Final = Table(
    "alerts",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("integration_id", Text),
    column("dedup_key", Text),
    column("key", UUID, comment="Hash of tenant, integration and dedup key"),
    column("state", Text),
    column("incident_id", UUID, nullable=True),
    column("severity", SmallInteger),
    column("summary", Text),
    column("source", Text),
    column("newest", LargeBinary, comment="tocsin.ingest.v1.AlertInput of the newest trigger"),
    column("count", BigInteger),
    column("create_time", TIME, default=NOW),
    column("last_receive_time", TIME, default=NOW),
    column("resolve_time", TIME, nullable=True),
    column(
        "start_time",
        TIME,
        nullable=True,
        comment="When this firing began by its sender's clock; null: the sender does not tell",
    ),
    column(
        "decided",
        LargeBinary,
        nullable=True,
        comment="tocsin.ingest.v1.AlertDecisions; null: it began before they were recorded",
    ),
    check("dedup_key <> ''"),
    check("severity > 0"),
    check("summary <> ''"),
    check("count > 0"),
    check("state IN ('firing', 'suppressed', 'resolved')", name="alerts_state"),
    check("state <> 'firing' OR incident_id IS NOT NULL", name="alerts_firing_has_incident"),
    check("state <> 'suppressed' OR incident_id IS NULL", name="alerts_suppressed_has_none"),
    check("(state = 'resolved') = (resolve_time IS NOT NULL)", name="alerts_resolved_when"),
    index("alerts_of_incident", "incident_id", "id"),
    index("alerts_of_org", "org_id", "id"),
    index("alerts_of_integration", "org_id", "integration_id", "id"),
    index("alerts_of_key", "org_id", "dedup_key", "id"),
    postgresql_partition_by="LIST (state)",
)
"""What monitoring systems sent, folded by dedup key. At most one row of a key is not resolved."""
also(
    alerts,
    "CREATE TABLE parts.alerts_live PARTITION OF alerts (PRIMARY KEY (id)) DEFAULT"
    " WITH (fillfactor = 80, vacuum_truncate = off)",
    "CREATE UNIQUE INDEX alerts_one_live_per_key ON parts.alerts_live (key)",
    "CREATE INDEX alerts_suppressed ON parts.alerts_live (create_time) WHERE state = 'suppressed'",
    "ALTER TABLE parts.alerts_live ADD CONSTRAINT alerts_live_incident FOREIGN KEY (incident_id)"
    " REFERENCES parts.incidents_open DEFERRABLE INITIALLY DEFERRED",
    "CREATE TABLE parts.alerts_resolved PARTITION OF alerts FOR VALUES IN ('resolved') PARTITION BY RANGE (resolve_time)",
    "CREATE TABLE parts.alerts_rest PARTITION OF parts.alerts_resolved (PRIMARY KEY (id)) DEFAULT",
    "CREATE INDEX alerts_rest_by_resolve_time ON parts.alerts_rest (resolve_time)",
    after=incidents,
)


def of_live_alerts(table: Table) -> None:
    """A row of the table goes when its alert (`alert_id`) is closed or deleted."""
    also(
        table,
        f"ALTER TABLE {table.name} ADD CONSTRAINT {table.name}_alert FOREIGN KEY (alert_id)"
        " REFERENCES parts.alerts_live ON DELETE CASCADE",
        after=alerts,
    )


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
