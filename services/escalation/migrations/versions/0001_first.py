"""People, policies, escalations, timers, timeline.

The rules that must hold no matter what the code does are constraints here: one live timer per escalation, a timer exactly in
the states that have one, a policy per tenant as its fallback at most.
"""

from alembic import op
from tocsin_kit.db.migrations import create_app_now, enable_row_security, outbox_table, requests_table, run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE users (
  org_id text NOT NULL,
  id text NOT NULL,
  display_name text NOT NULL,
  time_zone text NOT NULL,
  disabled boolean NOT NULL,
  version int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT users_pkey PRIMARY KEY (org_id, id)
);

CREATE TABLE teams (
  org_id text NOT NULL,
  id text NOT NULL,
  display_name text NOT NULL,
  members text[] NOT NULL,
  version int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT teams_pkey PRIMARY KEY (org_id, id)
);

CREATE TABLE policies (
  org_id text NOT NULL,
  id text NOT NULL,
  display_name text NOT NULL,
  definition jsonb NOT NULL,
  tenant_fallback boolean NOT NULL,
  version int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT policies_pkey PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX policies_one_fallback_per_org ON policies (org_id) WHERE tenant_fallback;

CREATE TABLE escalations (
  incident_id uuid NOT NULL,
  org_id text NOT NULL,
  title text NOT NULL,
  source text NOT NULL,
  severity smallint NOT NULL,
  integration text NOT NULL,
  labels jsonb NOT NULL,
  links jsonb NOT NULL,
  alert_count bigint NOT NULL,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  state text NOT NULL,
  policy_id text NOT NULL,
  policy jsonb,
  on_fallback_policy boolean NOT NULL,
  team text NOT NULL,
  level int NOT NULL,
  repeat int NOT NULL,
  generation int NOT NULL,
  assignees text[] NOT NULL,
  paged_users text[] NOT NULL,
  acknowledged_by text NOT NULL,
  acknowledge_time timestamptz,
  resolved_by text NOT NULL,
  resolve_time timestamptz,
  added_alerts_noted boolean NOT NULL,
  last_sequence bigint NOT NULL,
  version int NOT NULL,
  CONSTRAINT escalations_pkey PRIMARY KEY (incident_id),
  CONSTRAINT escalations_state CHECK (state IN ('triggered', 'acknowledged', 'snoozed', 'exhausted', 'resolved')),
  CONSTRAINT resolved_has_time CHECK ((state = 'resolved') = (resolve_time IS NOT NULL)),
  CONSTRAINT acknowledged_has_actor CHECK (state <> 'acknowledged' OR acknowledged_by <> ''),
  CONSTRAINT running_has_policy CHECK (state <> 'triggered' OR policy IS NOT NULL),
  CONSTRAINT counts_are_sane CHECK (level >= 0 AND repeat >= 0 AND generation >= 1 AND alert_count >= 0)
);
CREATE INDEX escalations_newest ON escalations (org_id, create_time DESC, incident_id DESC);
CREATE INDEX escalations_by_state ON escalations (org_id, state, create_time DESC, incident_id DESC);
CREATE INDEX escalations_by_policy ON escalations (org_id, policy_id, create_time DESC, incident_id DESC);
CREATE INDEX escalations_by_team ON escalations (org_id, team, create_time DESC, incident_id DESC) WHERE team <> '';
CREATE INDEX escalations_by_assignee ON escalations USING gin (assignees) WHERE state <> 'resolved';
CREATE INDEX escalations_running ON escalations (incident_id) WHERE state IN ('triggered', 'snoozed');
CREATE INDEX escalations_resolved ON escalations (resolve_time) WHERE state = 'resolved';

CREATE TABLE timers (
  incident_id uuid NOT NULL,
  org_id text NOT NULL,
  timer_id uuid NOT NULL,
  kind text NOT NULL,
  generation int NOT NULL,
  due_time timestamptz NOT NULL,
  urgent boolean NOT NULL,
  attempts int NOT NULL DEFAULT 0,
  retry_time timestamptz,
  CONSTRAINT timers_one_live_per_escalation PRIMARY KEY (incident_id),
  CONSTRAINT timers_escalation_fkey FOREIGN KEY (incident_id) REFERENCES escalations ON DELETE CASCADE,
  CONSTRAINT timers_kind CHECK (kind IN ('level_timeout', 'ack_timeout', 'snooze_end'))
);
CREATE INDEX timers_due ON timers (due_time, incident_id);
CREATE INDEX timers_by_org ON timers (org_id, urgent, due_time);

CREATE TABLE timeline (
  id bigint GENERATED ALWAYS AS IDENTITY,
  org_id text NOT NULL,
  incident_id uuid NOT NULL,
  create_time timestamptz NOT NULL,
  kind text NOT NULL,
  actor text NOT NULL,
  message text NOT NULL,
  level int NOT NULL,
  repeat int NOT NULL,
  generation int NOT NULL,
  state text NOT NULL,
  paged_users text[] NOT NULL,
  pages uuid[] NOT NULL,
  lateness_ms bigint NOT NULL,
  CONSTRAINT timeline_pkey PRIMARY KEY (id),
  CONSTRAINT timeline_escalation_fkey FOREIGN KEY (incident_id) REFERENCES escalations ON DELETE CASCADE
);
CREATE INDEX timeline_by_incident ON timeline (incident_id, id);

CREATE TABLE queue_pauses (
  queue text NOT NULL,
  pause_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT queue_pauses_pkey PRIMARY KEY (queue)
);
"""

TENANT_TABLES = ["users", "teams", "policies", "escalations", "timers", "timeline"]


def upgrade() -> None:
    create_app_now(op)
    run_script(op, TABLES)
    for table in TENANT_TABLES:
        enable_row_security(op, table)
    outbox_table(op)
    requests_table(op)


def downgrade() -> None:
    for table in ["queue_pauses", *reversed(TENANT_TABLES), "outbox", "requests"]:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION app_now()")
