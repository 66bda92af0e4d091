"""Escalations, their timers and their timeline."""

from typing import Final

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Identity,
    Integer,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_escalation.store.tables.metadata import METADATA

escalations: Final = Table(
    "escalations",
    METADATA,
    column("incident_id", UUID),
    column("org_id", Text),
    column("title", Text),
    column("source", Text),
    column("severity", SmallInteger),
    column("integration", Text),
    column("labels", JSONB),
    column("links", JSONB),
    column("alert_count", BigInteger),
    column("create_time", TIME),
    column("update_time", TIME),
    column("state", Text),
    column("policy_id", Text),
    column("policy", JSONB, nullable=True),
    column("on_fallback_policy", Boolean),
    column("team", Text),
    column("level", Integer),
    column("repeat", Integer),
    column("generation", Integer),
    column("assignees", ARRAY(Text)),
    column("paged_users", ARRAY(Text)),
    column("pages", JSONB, default='\'{"00000000-0000-0000-0000-000000000000": "open"}\''),
    column("reached", Text, default="'unknown'"),
    column("followers", JSONB, default="'{}'"),
    column("acknowledged_by", Text),
    column("acknowledge_time", TIME, nullable=True),
    column("resolved_by", Text),
    column("resolve_time", TIME, nullable=True),
    column("added_alerts_noted", Boolean),
    column("severity_set", Boolean, default="false"),
    column("handed_on", Integer, default="0"),
    column("merged_into", UUID, nullable=True),
    column("last_sequence", BigInteger),
    column("version", Integer),
    primary_key("incident_id"),
    check(
        "state IN ('triggered', 'acknowledged', 'snoozed', 'exhausted', 'resolved', 'merged')", name="escalations_state"
    ),
    check("state <> 'merged' OR merged_into IS NOT NULL", name="merged_has_target"),
    check("(state = 'resolved') = (resolve_time IS NOT NULL)", name="resolved_has_time"),
    check("state <> 'acknowledged' OR acknowledged_by <> ''", name="acknowledged_has_actor"),
    check("state <> 'triggered' OR policy IS NOT NULL", name="running_has_policy"),
    check("level >= 0 AND repeat >= 0 AND generation >= 1 AND alert_count >= 0", name="counts_are_sane"),
    check("reached IN ('unknown', 'somebody', 'nobody')", name="escalations_reached"),
    index("escalations_newest", "org_id", "create_time DESC", "incident_id DESC"),
    index("escalations_by_state", "org_id", "state", "create_time DESC", "incident_id DESC"),
    index("escalations_by_policy", "org_id", "policy_id", "create_time DESC", "incident_id DESC"),
    index("escalations_by_team", "org_id", "team", "create_time DESC", "incident_id DESC", where="team <> ''"),
    index("escalations_by_assignee", "assignees", using="gin", where="state <> 'resolved'"),
    index("escalations_resolved", "resolve_time", where="state = 'resolved'"),
    index("escalations_merged", "merged_into", where="state = 'merged'"),
    index("escalations_open", "incident_id", where="state <> 'resolved'"),
    # Values that are written to nearly every row within seconds fit on the same page, without a new index entry.
    postgresql_with={"fillfactor": 50},
)
"""The run of one incident: its state, its level, and the policy as it was when the run began."""

timers: Final = Table(
    "timers",
    METADATA,
    column("incident_id", UUID),
    column("org_id", Text),
    column("timer_id", UUID),
    column("kind", Text),
    column("generation", Integer),
    column("due_time", TIME),
    column("urgent", Boolean),
    column("attempts", Integer, default="0"),
    column("retry_time", TIME, nullable=True),
    column("level_end", TIME, nullable=True),
    primary_key("incident_id", name="timers_one_live_per_escalation"),
    foreign_key(["incident_id"], "escalations", ["incident_id"], name="timers_escalation_fkey", ondelete="CASCADE"),
    check(
        "kind IN ('level_timeout', 'ack_timeout', 'snooze_end', 'gap_hold', 'deferred', 'deferred_end')",
        name="timers_kind",
    ),
    index("timers_due", "due_time", "incident_id"),
    index("timers_by_org", "org_id", "urgent", "due_time"),
)
"""The one live timer of each running escalation. Redis has a copy of it."""

timeline: Final = Table(
    "timeline",
    METADATA,
    column("id", BigInteger, Identity(always=True)),
    column("org_id", Text),
    column("incident_id", UUID),
    column("create_time", TIME),
    column("kind", Text),
    column("actor", Text),
    column("message", Text),
    column("level", Integer),
    column("repeat", Integer),
    column("generation", Integer),
    column("state", Text),
    column("paged_users", ARRAY(Text)),
    column("pages", ARRAY(UUID)),
    column("lateness_ms", BigInteger),
    column("outcome", Text, default="''"),
    column("transaction", BigInteger, default="(pg_current_xact_id()::text)::bigint", nullable=True),
    primary_key("id"),
    foreign_key(["incident_id"], "escalations", ["incident_id"], name="timeline_escalation_fkey", ondelete="CASCADE"),
    index("timeline_changes", "org_id", "transaction", "id", where="transaction IS NOT NULL"),
    index("timeline_by_incident", "incident_id", "id"),
    index("timeline_outcome_once", "incident_id", "outcome", unique=True, where="outcome <> ''"),
)
"""What happened to an incident, and why a page was or was not sent."""

event_feeds: Final = Table(
    "event_feeds",
    METADATA,
    column("org_id", Text),
    column("update_time", TIME, default=NOW),
    primary_key("org_id"),
    index("event_feeds_oldest", "update_time"),
)
"""Tenants whose incident events are sent to notify. A tenant without a row has no subscription."""
