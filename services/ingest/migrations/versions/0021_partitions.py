"""Alerts and incidents in two parts: the live ones in a small table, the closed ones partitioned by when they were closed.

Revision ID: 0021
Revises: 0020
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, guard_partition, run_script

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# In a schema of their own, on which the login of calls has no right: a partition is reached through its table alone, whose row
# rules then hold. What looks at the tables of `public` (rights, row rules) does not meet partitions that come and go.
OUT_OF_THE_WAY = """
SET LOCAL tocsin.org_id = '*';
LOCK TABLE incidents, alerts, alert_holds, alert_pauses, alert_thresholds, alert_endings IN ACCESS EXCLUSIVE MODE;
CREATE SCHEMA parts;
ALTER TABLE alert_holds DROP CONSTRAINT alert_holds_alert;
ALTER TABLE alert_pauses DROP CONSTRAINT alert_pauses_alert;
ALTER TABLE alert_thresholds DROP CONSTRAINT alert_thresholds_alert;
ALTER TABLE alert_endings DROP CONSTRAINT alert_endings_alert;
ALTER TABLE alerts DROP CONSTRAINT alerts_incident_id_fkey;
DROP INDEX alerts_suppressed;
ALTER INDEX alerts_one_live_per_key RENAME TO alerts_before_live;
ALTER INDEX incidents_one_open_per_group RENAME TO incidents_before_open;
ALTER TABLE alerts RENAME TO alerts_before;
ALTER TABLE alerts_before SET SCHEMA parts;
ALTER TABLE incidents RENAME TO incidents_before;
ALTER TABLE incidents_before SET SCHEMA parts;
"""

TABLES = """
CREATE TABLE incidents (
  id uuid NOT NULL,
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
) PARTITION BY LIST (state);
COMMENT ON COLUMN incidents.integration_id IS 'Empty: none. No foreign key: incidents outlive it';
COMMENT ON COLUMN incidents.first_alert IS 'tocsin.ingest.v1.AlertInput that opened it';
COMMENT ON COLUMN incidents.group_key IS 'Hash of tenant, integration and what its alerts agree in';
-- Live parts are never cut when they are empty: to walk one without a page seems to cost nothing, and plans are kept.
CREATE TABLE parts.incidents_open PARTITION OF incidents (PRIMARY KEY (id)) DEFAULT WITH (fillfactor = 80, vacuum_truncate = off);
CREATE UNIQUE INDEX incidents_one_open_per_group ON parts.incidents_open (group_key);
CREATE TABLE parts.incidents_resolved PARTITION OF incidents FOR VALUES IN ('resolved') PARTITION BY RANGE (resolve_time);
CREATE TABLE parts.incidents_rest PARTITION OF parts.incidents_resolved (PRIMARY KEY (id)) DEFAULT;
CREATE INDEX incidents_rest_by_resolve_time ON parts.incidents_rest (resolve_time);

CREATE TABLE alerts (
  id uuid NOT NULL,
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
  start_time timestamptz,
  decided bytea,
  CONSTRAINT alerts_state CHECK (state IN ('firing', 'suppressed', 'resolved')),
  CONSTRAINT alerts_firing_has_incident CHECK (state <> 'firing' OR incident_id IS NOT NULL),
  CONSTRAINT alerts_suppressed_has_none CHECK (state <> 'suppressed' OR incident_id IS NULL),
  CONSTRAINT alerts_resolved_when CHECK ((state = 'resolved') = (resolve_time IS NOT NULL))
) PARTITION BY LIST (state);
COMMENT ON COLUMN alerts.key IS 'Hash of tenant, integration and dedup key';
COMMENT ON COLUMN alerts.newest IS 'tocsin.ingest.v1.AlertInput of the newest trigger';
COMMENT ON COLUMN alerts.start_time IS 'When this firing began by its sender''s clock; null: the sender does not tell';
COMMENT ON COLUMN alerts.decided IS 'tocsin.ingest.v1.AlertDecisions; null: it began before they were recorded';
CREATE INDEX alerts_of_incident ON alerts (incident_id, id);
CREATE INDEX alerts_of_org ON alerts (org_id, id);
CREATE INDEX alerts_of_integration ON alerts (org_id, integration_id, id);
CREATE INDEX alerts_of_key ON alerts (org_id, dedup_key, id);
CREATE TABLE parts.alerts_live PARTITION OF alerts (PRIMARY KEY (id)) DEFAULT WITH (fillfactor = 80, vacuum_truncate = off);
-- Duplicates change no indexed column, so that they stay cheap however many come (heap-only updates).
CREATE UNIQUE INDEX alerts_one_live_per_key ON parts.alerts_live (key);
CREATE INDEX alerts_suppressed ON parts.alerts_live (create_time) WHERE state = 'suppressed';
CREATE TABLE parts.alerts_resolved PARTITION OF alerts FOR VALUES IN ('resolved') PARTITION BY RANGE (resolve_time);
CREATE TABLE parts.alerts_rest PARTITION OF parts.alerts_resolved (PRIMARY KEY (id)) DEFAULT;
CREATE INDEX alerts_rest_by_resolve_time ON parts.alerts_rest (resolve_time);
"""

# The login of calls, if there is one: its right and its row rule, as `migrate` gave them to the tables that were there.
RIGHTS = """
DO $$
DECLARE
  table_name text; login regrole; rule record;
BEGIN
  FOREACH table_name IN ARRAY ARRAY['incidents', 'alerts'] LOOP
    FOR login IN
      SELECT DISTINCT acl.grantee::regrole FROM pg_class, aclexplode(relacl) AS acl
      WHERE pg_class.oid = format('parts.%s_before', table_name)::regclass AND acl.grantee NOT IN (relowner, 0)
    LOOP
      EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO %s', table_name, login);
      EXECUTE format('REVOKE ALL ON parts.%I FROM %s', table_name || '_before', login);
    END LOOP;
    FOR rule IN
      SELECT polname, polroles[1]::regrole AS login, pg_get_expr(polqual, polrelid) AS condition FROM pg_policy
      WHERE polrelid = format('parts.%s_before', table_name)::regclass AND NOT polpermissive
    LOOP
      EXECUTE format('CREATE POLICY %I ON %I AS RESTRICTIVE TO %s USING (%s)',
        rule.polname, table_name, rule.login, rule.condition);
      EXECUTE format('DROP POLICY %I ON parts.%I', rule.polname, table_name || '_before');
    END LOOP;
    EXECUTE format('DROP POLICY %I ON parts.%I', table_name || '_tenant', table_name || '_before');
  END LOOP;
END
$$;
"""

# A firing alert without an open incident is against every rule that the code keeps; should there be one, it is over with it.
MOVE = """
INSERT INTO incidents SELECT * FROM parts.incidents_before WHERE state = 'open';
DELETE FROM parts.incidents_before WHERE state = 'open';
UPDATE parts.alerts_before AS a SET state = 'resolved', resolve_time = app_now()
  WHERE state <> 'resolved' AND state = 'firing'
    AND NOT EXISTS (SELECT FROM parts.incidents_open AS i WHERE i.id = a.incident_id);
INSERT INTO alerts SELECT * FROM parts.alerts_before WHERE state <> 'resolved';
DELETE FROM parts.alerts_before WHERE state <> 'resolved';
DROP INDEX parts.alerts_before_live, parts.incidents_before_open;
"""

# A row that leaves the live part is over. The alerts of an incident went with it (ON DELETE CASCADE): now that would delete live
# alerts when their incident is closed, so a transaction that closes one and leaves an alert firing in it fails instead.
OF_LIVE_INCIDENTS = """
ALTER TABLE parts.alerts_live ADD CONSTRAINT alerts_live_incident
  FOREIGN KEY (incident_id) REFERENCES parts.incidents_open DEFERRABLE INITIALLY DEFERRED;
"""
OF_LIVE_ALERTS = """
DELETE FROM {table} AS waiting WHERE NOT EXISTS (SELECT FROM parts.alerts_live WHERE id = waiting.alert_id);
ALTER TABLE {table} ADD CONSTRAINT {table}_alert FOREIGN KEY (alert_id) REFERENCES parts.alerts_live ON DELETE CASCADE;
"""

PARTS = (
    *("incidents_before", "incidents_open", "incidents_resolved", "incidents_rest"),
    *("alerts_before", "alerts_live", "alerts_resolved", "alerts_rest"),
)


def upgrade() -> None:
    """Moves the live rows. What is closed stays where it is; the next revision makes a partition of it."""
    run_script(op, OUT_OF_THE_WAY)
    run_script(op, TABLES)
    for table in ("incidents", "alerts"):
        enable_row_security(op, table)
    run_script(op, RIGHTS)
    for part in PARTS:
        guard_partition(op, f"parts.{part}")
    run_script(op, MOVE)
    run_script(op, OF_LIVE_INCIDENTS)
    for table in ("alert_holds", "alert_pauses", "alert_thresholds", "alert_endings"):
        run_script(op, OF_LIVE_ALERTS.format(table=table))


def downgrade() -> None:
    """There is none: the code before works on this schema."""
    raise NotImplementedError
