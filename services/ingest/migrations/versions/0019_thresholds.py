"""How many triggers of a group have come, and the alerts that wait for more.

Revision ID: 0019
Revises: 0018
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE alert_thresholds (
  alert_id uuid NOT NULL PRIMARY KEY,
  org_id text NOT NULL,
  group_key uuid NOT NULL,
  count integer NOT NULL,
  lasts interval NOT NULL,
  labels bytea,
  CONSTRAINT alert_thresholds_alert FOREIGN KEY (alert_id) REFERENCES alerts ON DELETE CASCADE
);
COMMENT ON COLUMN alert_thresholds.group_key IS 'incidents.group_key of the incident that it waits for';
COMMENT ON COLUMN alert_thresholds.count IS 'So many triggers of the group open it';
COMMENT ON COLUMN alert_thresholds.lasts IS 'Within so long';
COMMENT ON COLUMN alert_thresholds.labels IS
  'tocsin.ingest.v1.AlertInput with nothing but its labels as they came; null: alerts.newest has them whole';
CREATE INDEX alert_thresholds_of_group ON alert_thresholds (group_key, alert_id);

CREATE TABLE group_triggers (
  group_key uuid NOT NULL,
  time timestamptz NOT NULL,
  org_id text NOT NULL,
  count integer NOT NULL CHECK (count > 0),
  end_time timestamptz NOT NULL,
  PRIMARY KEY (group_key, time)
) WITH (fillfactor = 50);
COMMENT ON COLUMN group_triggers.time IS 'Of the first of them; a hundredth of the window has one row at most';
COMMENT ON COLUMN group_triggers.end_time IS 'When the window has left them behind';
CREATE INDEX group_triggers_ended ON group_triggers (end_time);
"""


def upgrade() -> None:
    """Two tables."""
    run_script(op, TABLES)
    enable_row_security(op, "alert_thresholds")
    enable_row_security(op, "group_triggers")


def downgrade() -> None:
    """Without them: what was below its threshold pages at its next trigger."""
    run_script(op, "DROP TABLE group_triggers; DROP TABLE alert_thresholds;")
