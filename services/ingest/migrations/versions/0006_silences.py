"""Silences, and the alerts that they hold back.

Revision ID: 0006
Revises: 0005
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# What holds an alert back is no column of alerts: that table is large, and the code before this one writes its rows.
TABLES = """
CREATE TABLE silences (
  org_id text NOT NULL,
  id uuid NOT NULL,
  integration_id text NOT NULL,
  matchers bytea NOT NULL,
  start_time timestamptz NOT NULL,
  end_time timestamptz NOT NULL,
  reason text NOT NULL CHECK (reason <> ''),
  author text NOT NULL,
  version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
  changed boolean NOT NULL DEFAULT false,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  PRIMARY KEY (org_id, id),
  CONSTRAINT silences_order CHECK (start_time <= end_time)
);
COMMENT ON COLUMN silences.integration_id IS 'Empty: alerts of any. No foreign key: a silence outlives it';
COMMENT ON COLUMN silences.matchers IS 'tocsin.ingest.v1.Silence with nothing but its matchers';
COMMENT ON COLUMN silences.changed IS 'The alerts that it holds back are to be looked at again';
CREATE INDEX silences_by_end ON silences (org_id, end_time, id);
CREATE INDEX silences_ended ON silences (end_time);
CREATE INDEX silences_changed ON silences (org_id, id) WHERE changed;

CREATE TABLE silence_counts (
  org_id text NOT NULL,
  silence_id uuid NOT NULL,
  alerts bigint NOT NULL CHECK (alerts >= 0),
  messages bigint NOT NULL CHECK (messages >= 0),
  PRIMARY KEY (org_id, silence_id),
  CONSTRAINT silence_counts_silence FOREIGN KEY (org_id, silence_id) REFERENCES silences ON DELETE CASCADE
) WITH (fillfactor = 50);

CREATE TABLE alert_holds (
  alert_id uuid NOT NULL PRIMARY KEY,
  org_id text NOT NULL,
  silence_id uuid NOT NULL,
  due_time timestamptz NOT NULL,
  CONSTRAINT alert_holds_alert FOREIGN KEY (alert_id) REFERENCES alerts ON DELETE CASCADE
);
COMMENT ON COLUMN alert_holds.due_time IS 'When the alert is looked at again';
CREATE INDEX alert_holds_due ON alert_holds (org_id, due_time);
CREATE INDEX alert_holds_of_silence ON alert_holds (org_id, silence_id);
"""


def upgrade() -> None:
    """Three tables."""
    run_script(op, TABLES)
    for table in ("silences", "silence_counts", "alert_holds"):
        enable_row_security(op, table)


def downgrade() -> None:
    """Without them."""
    run_script(op, "DROP TABLE alert_holds, silence_counts, silences;")
