"""Integrations with their keys, alerts, incidents, outbox and idempotency records.

Revision ID: 0001
Revises:
"""

from alembic import op
from tocsin_kit.db.migrations import create_app_now, enable_row_security, outbox_table, requests_table, run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What the hot path looks for (a key, a group key, an id) is the first and only column of its index, and no other index
# begins with it. An index that began with the tenant would look just as good to a planner without statistics, which a
# fresh or fast growing table is to it, and would then be walked from end to end.
TABLES = """
CREATE TABLE integrations (
  org_id text NOT NULL,
  integration_id text NOT NULL,
  display_name text NOT NULL CHECK (display_name <> ''),
  default_policy text NOT NULL,
  routing_rules bytea NOT NULL,
  version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  PRIMARY KEY (org_id, integration_id)
);
COMMENT ON COLUMN integrations.routing_rules IS 'tocsin.ingest.v1.Integration with nothing but its routing_rules';

CREATE TABLE integration_keys (
  key_hash bytea PRIMARY KEY CHECK (length(key_hash) = 32),
  org_id text NOT NULL,
  integration_id text NOT NULL,
  prefix text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  expire_time timestamptz,
  FOREIGN KEY (org_id, integration_id) REFERENCES integrations ON DELETE CASCADE
);
COMMENT ON COLUMN integration_keys.key_hash IS 'SHA-256 of the key: 32 random bytes need no slow hash';
CREATE INDEX integration_keys_of_integration ON integration_keys (org_id, integration_id);
CREATE UNIQUE INDEX integration_keys_one_current ON integration_keys (org_id, integration_id) WHERE expire_time IS NULL;

CREATE TABLE incidents (
  id uuid PRIMARY KEY,
  org_id text NOT NULL,
  integration_id text NOT NULL,
  group_key uuid NOT NULL,
  state text NOT NULL,
  severity smallint NOT NULL CHECK (severity > 0),
  policy text NOT NULL,
  title text NOT NULL CHECK (title <> ''),
  first_alert bytea NOT NULL,
  alert_count bigint NOT NULL CHECK (alert_count > 0),
  firing_count bigint NOT NULL,
  event_sequence bigint NOT NULL CHECK (event_sequence > 0),
  create_time timestamptz NOT NULL DEFAULT app_now(),
  resolve_time timestamptz,
  resolved_by text,
  CONSTRAINT incidents_state CHECK (state IN ('open', 'resolved')),
  CONSTRAINT incidents_open_while_firing CHECK (firing_count >= 0 AND (state = 'open') = (firing_count > 0)),
  CONSTRAINT incidents_resolved_when_and_by CHECK (
    (state = 'resolved') = (resolve_time IS NOT NULL) AND (state = 'resolved') = (resolved_by IS NOT NULL)
  )
) WITH (fillfactor = 80);
COMMENT ON COLUMN incidents.integration_id IS 'Empty: none. No foreign key: incidents outlive it';
COMMENT ON COLUMN incidents.first_alert IS 'tocsin.ingest.v1.AlertInput that opened it';
COMMENT ON COLUMN incidents.group_key IS 'Hash of tenant, integration and what its alerts agree in';
CREATE UNIQUE INDEX incidents_one_open_per_group ON incidents (group_key) WHERE state = 'open';
CREATE INDEX incidents_by_resolve_time ON incidents (resolve_time) WHERE state = 'resolved';

CREATE TABLE alerts (
  id uuid PRIMARY KEY,
  org_id text NOT NULL,
  integration_id text NOT NULL,
  dedup_key text NOT NULL CHECK (dedup_key <> ''),
  key uuid NOT NULL,
  state text NOT NULL,
  incident_id uuid,
  severity smallint NOT NULL CHECK (severity > 0),
  summary text NOT NULL CHECK (summary <> ''),
  source text NOT NULL,
  newest bytea NOT NULL,
  count bigint NOT NULL CHECK (count > 0),
  create_time timestamptz NOT NULL DEFAULT app_now(),
  last_receive_time timestamptz NOT NULL DEFAULT app_now(),
  resolve_time timestamptz,
  -- Deferred: a suppressed alert that begins to fire is updated before the incident it opens is inserted.
  FOREIGN KEY (incident_id) REFERENCES incidents ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT alerts_state CHECK (state IN ('firing', 'suppressed', 'resolved')),
  CONSTRAINT alerts_firing_has_incident CHECK (state <> 'firing' OR incident_id IS NOT NULL),
  CONSTRAINT alerts_suppressed_has_none CHECK (state <> 'suppressed' OR incident_id IS NULL),
  CONSTRAINT alerts_resolved_when CHECK ((state = 'resolved') = (resolve_time IS NOT NULL))
) WITH (fillfactor = 80);
COMMENT ON COLUMN alerts.key IS 'Hash of tenant, integration and dedup key';
COMMENT ON COLUMN alerts.newest IS 'tocsin.ingest.v1.AlertInput of the newest trigger';
-- Duplicates change no indexed column, so that they stay cheap however many come (heap-only updates).
CREATE UNIQUE INDEX alerts_one_live_per_key ON alerts (key) WHERE state <> 'resolved';
CREATE INDEX alerts_of_incident ON alerts (incident_id, id);
CREATE INDEX alerts_of_org ON alerts (org_id, id);
CREATE INDEX alerts_of_integration ON alerts (org_id, integration_id, id);
CREATE INDEX alerts_of_key ON alerts (org_id, dedup_key, id);
CREATE INDEX alerts_by_resolve_time ON alerts (resolve_time) WHERE state = 'resolved';
CREATE INDEX alerts_suppressed ON alerts (create_time) WHERE state = 'suppressed';
"""


def upgrade() -> None:
    """From nothing."""
    create_app_now(op)
    run_script(op, TABLES)
    for table in ("integrations", "integration_keys", "incidents", "alerts"):
        enable_row_security(op, table)
    outbox_table(op)
    requests_table(op)


def downgrade() -> None:
    """Back to nothing."""
    run_script(
        op,
        "DROP TABLE alerts, incidents, integration_keys, integrations, outbox, requests; DROP FUNCTION app_now();",
    )
