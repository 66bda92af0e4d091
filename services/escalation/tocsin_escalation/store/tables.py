"""The schema of escalation: the tables as all migrations together leave them.

A migration that changes one changes this file in the same commit; tests/store/test_schema.py compares the two.
"""

from typing import Final

from sqlalchemy import UUID, BigInteger, Boolean, Identity, Integer, LargeBinary, MetaData, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from tocsin_kit.db import tables as kit
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_escalation.store import further_tables

METADATA: Final = MetaData()

users: Final = Table(
    "users",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("time_zone", Text),
    column("disabled", Boolean),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
)
"""People who can be paged."""

teams: Final = Table(
    "teams",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("members", ARRAY(Text)),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
)
"""Groups of users that a policy can name."""

policies: Final = Table(
    "policies",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("definition", JSONB),
    column("tenant_fallback", Boolean),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
    index("policies_one_fallback_per_org", "org_id", unique=True, where="tenant_fallback"),
)
"""Whom to page, level after level, and how long each level waits."""

policy_turns: Final = Table(
    "policy_turns",
    METADATA,
    column("org_id", Text),
    column("policy_id", Text),
    column("users", ARRAY(Text), default="'{}'"),
    primary_key("org_id", "policy_id"),
    foreign_key(
        ["org_id", "policy_id"], "policies", ["org_id", "id"], name="policy_turns_policy_fkey", ondelete="CASCADE"
    ),
)
"""Who had a turn at the levels of a policy that page one in turn; whose was longest ago comes first."""

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
    check("kind IN ('level_timeout', 'ack_timeout', 'snooze_end', 'gap_hold', 'deferred')", name="timers_kind"),
    index("timers_due", "due_time", "incident_id"),
    index("timers_by_org", "org_id", "urgent", "due_time"),
)
"""The one live timer of each running escalation. Redis holds a copy of it."""

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

schedules: Final = Table(
    "schedules",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("description", Text),
    column("time_zone", Text),
    column("stand_in", Boolean),
    column("layers", JSONB),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
)
"""Who is on call when: layers of turns."""

schedule_overrides: Final = Table(
    "schedule_overrides",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("schedule_id", Text),
    column("start_time", TIME),
    column("end_time", TIME),
    column("scope", Text),
    column("replaced", Text),
    column("users", ARRAY(Text)),
    column("reason", Text),
    column("author", Text),
    column("ordinal", BigInteger, Identity(always=True)),
    column("create_time", TIME, default=NOW),
    column("swap_id", UUID, nullable=True),
    primary_key("org_id", "id"),
    foreign_key(
        ["org_id", "schedule_id"],
        "schedules",
        ["org_id", "id"],
        name="schedule_overrides_schedule_fkey",
        ondelete="CASCADE",
    ),
    check("scope IN ('schedule', 'layer', 'person')", name="schedule_overrides_scope"),
    check("start_time < end_time", name="schedule_overrides_order"),
    index("schedule_overrides_by_schedule", "org_id", "schedule_id", "end_time"),
    index("schedule_overrides_by_end", "org_id", "end_time", "id"),
)
"""Changes of a schedule for a time. Of two that overlap, the one with the higher ordinal counts."""

absences: Final = Table(
    "absences",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("user_id", Text),
    column("start_time", TIME),
    column("end_time", TIME),
    column("reason", Text),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    primary_key("org_id", "id"),
    check("start_time < end_time", name="absences_order"),
    index("absences_by_user", "org_id", "user_id", "end_time"),
    index("absences_by_end", "org_id", "end_time", "id"),
)
"""When people are away."""

fixed_periods: Final = Table(
    "fixed_periods",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("schedule_id", Text),
    column("start_time", TIME),
    column("end_time", TIME),
    column("shifts", JSONB),
    column("reason", Text),
    column("author", Text),
    column("ordinal", BigInteger, Identity(always=True)),
    column("create_time", TIME, default=NOW),
    primary_key("org_id", "id"),
    foreign_key(
        ["org_id", "schedule_id"], "schedules", ["org_id", "id"], name="fixed_periods_schedule_fkey", ondelete="CASCADE"
    ),
    check("start_time < end_time", name="fixed_periods_order"),
    index("fixed_periods_by_schedule", "org_id", "schedule_id", "end_time"),
    index("fixed_periods_by_end", "org_id", "end_time", "id"),
)
"""Times in which the shifts of a schedule are written down one by one."""

calendar_feeds: Final = Table(
    "calendar_feeds",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("user_id", Text),
    column("schedule_id", Text),
    column("display_name", Text),
    column("secret_hash", LargeBinary, comment="SHA-256 of the secret: 32 random bytes need no slow hash"),
    column("prefix", Text),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    column("last_fetch_time", TIME, nullable=True),
    column(
        "events",
        JSONB,
        default="'[]'",
        comment="What the feed has shown, so that it can cancel what is not true any more",
    ),
    column("events_version", BigInteger, default="0"),
    primary_key("org_id", "id"),
    check("length(secret_hash) = 32"),
    check("(user_id = '') <> (schedule_id = '')", name="calendar_feeds_about"),
    index("calendar_feeds_by_secret", "secret_hash", unique=True),
    index("calendar_feeds_by_time", "org_id", "create_time", "id"),
)
"""Secret URLs at which calendar programs find shifts, and what they were shown."""

service_accounts: Final = Table(
    "service_accounts",
    METADATA,
    column("org_id", Text),
    column("id", Text),
    column("display_name", Text),
    column("author", Text),
    column("version", BigInteger, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "id"),
)
"""Machines that call Tocsin."""

api_keys: Final = Table(
    "api_keys",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("service_account", Text),
    column("key_hash", LargeBinary, comment="SHA-256 of the key: 32 random bytes need no slow hash"),
    column("prefix", Text),
    column("display_name", Text),
    column("role", Text),
    column("scopes", ARRAY(Text)),
    column("source_ranges", ARRAY(Text)),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME, nullable=True),
    column("last_use_time", TIME, nullable=True),
    column("revoke_time", TIME, nullable=True),
    primary_key("org_id", "id"),
    foreign_key(
        ["org_id", "service_account"],
        "service_accounts",
        ["org_id", "id"],
        name="api_keys_account_fkey",
        ondelete="CASCADE",
    ),
    check("length(key_hash) = 32"),
    index("api_keys_by_hash", "key_hash", unique=True),
    index("api_keys_by_time", "org_id", "create_time", "id"),
    index("api_keys_by_account", "org_id", "service_account"),
    index(
        "api_keys_by_end",
        "least(expire_time, revoke_time)",
        where="expire_time IS NOT NULL OR revoke_time IS NOT NULL",
    ),
)
"""Keys of service accounts, as hashes, and what they may do."""

revocations: Final = Table(
    "revocations",
    METADATA,
    column("org_id", Text),
    column("id", UUID),
    column("number", BigInteger, Identity(always=True)),
    column("token_id", Text),
    column("subject", Text),
    column("issued_before", TIME),
    column("of_key", Boolean, comment="Of an API key, which is shown as revoked by itself"),
    column("reason", Text),
    column("author", Text),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME),
    primary_key("org_id", "id"),
    check("(token_id = '') <> (subject = '')", name="revocations_of_one_thing"),
    index("revocations_by_number", "number", unique=True),
    index("revocations_of_org", "org_id", "number"),
    index("revocations_by_end", "expire_time"),
    index("revocations_by_time", "create_time"),
)
"""Credentials that are refused although they have not expired, until they have."""

calendar_imports: Final = further_tables.calendar_imports(METADATA)
swaps: Final = further_tables.swaps(METADATA)
reminders: Final = further_tables.reminders(METADATA)
event_feeds: Final = further_tables.event_feeds(METADATA)
counting_places: Final = further_tables.counting_places(METADATA)
counted_incidents: Final = further_tables.counted_incidents(METADATA)
incident_figures: Final = further_tables.incident_figures(METADATA)
person_figures: Final = further_tables.person_figures(METADATA)
person_days: Final = further_tables.person_days(METADATA)
shift_notice_choices: Final = further_tables.shift_notice_choices(METADATA)
known_shifts: Final = further_tables.known_shifts(METADATA)
shift_notices: Final = further_tables.shift_notices(METADATA)
outbox: Final = kit.outbox(METADATA)
requests: Final = kit.requests(METADATA)
audit_entries: Final = kit.audit_entries(METADATA)
audit_resources: Final = kit.audit_resources(METADATA)
tenant_limits: Final = kit.tenant_limits(METADATA)
queue_pauses: Final = kit.queue_pauses(METADATA)
queue_options: Final = kit.queue_options(METADATA)
