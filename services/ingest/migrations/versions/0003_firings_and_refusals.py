"""When firings began and ended by their sender's clock, and how many alerts of an integration were refused.

Revision ID: 0003
Revises: 0002
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE alerts ADD COLUMN start_time timestamptz;
COMMENT ON COLUMN alerts.start_time IS 'When this firing began by its sender''s clock; null: the sender does not tell';

CREATE TABLE ended_firings (
  key uuid PRIMARY KEY,
  org_id text NOT NULL,
  start_time timestamptz NOT NULL,
  end_time timestamptz NOT NULL DEFAULT app_now()
);
COMMENT ON COLUMN ended_firings.key IS 'alerts.key: the hash of tenant, integration and dedup key';
COMMENT ON COLUMN ended_firings.start_time IS 'By the sender''s clock; end_time is by ours';
CREATE INDEX ended_firings_by_end_time ON ended_firings (end_time);

CREATE TABLE refused_alerts (
  org_id text NOT NULL,
  integration_id text NOT NULL,
  refused bigint NOT NULL CHECK (refused >= 0),
  reason text NOT NULL,
  report_time timestamptz,
  PRIMARY KEY (org_id, integration_id)
);
COMMENT ON COLUMN refused_alerts.refused IS 'Since report_time';
CREATE INDEX refused_alerts_by_report_time ON refused_alerts (report_time);
"""


def upgrade() -> None:
    """A column and two tables."""
    run_script(op, TABLES)
    for table in ("ended_firings", "refused_alerts"):
        enable_row_security(op, table)


def downgrade() -> None:
    """Without them."""
    run_script(op, "DROP TABLE ended_firings, refused_alerts; ALTER TABLE alerts DROP COLUMN start_time;")
