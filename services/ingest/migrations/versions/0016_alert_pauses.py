"""Alerts whose routing rule pauses them.

Revision ID: 0016
Revises: 0015
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# Beside `alert_holds`: a silence may hold an alert back whose pause runs meanwhile.
TABLE = """
CREATE TABLE alert_pauses (
  alert_id uuid NOT NULL PRIMARY KEY,
  org_id text NOT NULL,
  due_time timestamptz NOT NULL,
  labels bytea,
  CONSTRAINT alert_pauses_alert FOREIGN KEY (alert_id) REFERENCES alerts ON DELETE CASCADE
);
COMMENT ON COLUMN alert_pauses.due_time IS 'When the pause is over';
COMMENT ON COLUMN alert_pauses.labels IS
  'tocsin.ingest.v1.AlertInput with nothing but its labels as they came; null: alerts.newest has them whole';
CREATE INDEX alert_pauses_due ON alert_pauses (org_id, due_time);
"""


def upgrade() -> None:
    """One table."""
    run_script(op, TABLE)
    enable_row_security(op, "alert_pauses")


def downgrade() -> None:
    """Without it: what was paused pages at its next trigger."""
    run_script(op, "DROP TABLE alert_pauses;")
