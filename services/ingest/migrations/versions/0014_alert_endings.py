"""When alerts are over that their sender does not send again.

Revision ID: 0014
Revises: 0013
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# No column of alerts: that table is large, and an index of the end would make each repeat of such an alert write all its indexes.
TABLE = """
CREATE TABLE alert_endings (
  alert_id uuid NOT NULL PRIMARY KEY,
  org_id text NOT NULL,
  end_time timestamptz NOT NULL,
  lasts interval NOT NULL,
  named boolean NOT NULL,
  CONSTRAINT alert_endings_alert FOREIGN KEY (alert_id) REFERENCES alerts ON DELETE CASCADE
);
COMMENT ON COLUMN alert_endings.end_time IS 'When it is over';
COMMENT ON COLUMN alert_endings.lasts IS 'From its newest trigger to end_time';
COMMENT ON COLUMN alert_endings.named IS 'Its sender named the end; otherwise it is waited for';
CREATE INDEX alert_endings_due ON alert_endings (org_id, end_time);
"""


def upgrade() -> None:
    """One table."""
    run_script(op, TABLE)
    enable_row_security(op, "alert_endings")


def downgrade() -> None:
    """Without it."""
    run_script(op, "DROP TABLE alert_endings;")
