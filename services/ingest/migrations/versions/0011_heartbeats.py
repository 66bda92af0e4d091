"""Heartbeats: how often an integration must call in, and when it did.

Revision ID: 0011
Revises: 0010
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE integrations ADD COLUMN heartbeat_interval interval, ADD COLUMN heartbeat_time timestamptz,
  ADD COLUMN heartbeat_due_time timestamptz, ADD COLUMN heartbeat_watch_time timestamptz,
  ADD COLUMN heartbeat_missing boolean NOT NULL DEFAULT false,
  ADD CONSTRAINT integrations_heartbeat CHECK ((heartbeat_interval IS NULL) = (heartbeat_due_time IS NULL)
    AND (heartbeat_interval IS NULL) = (heartbeat_watch_time IS NULL)
    AND (heartbeat_interval IS NOT NULL OR NOT heartbeat_missing));
COMMENT ON COLUMN integrations.heartbeat_watch_time IS 'When a search for missing heartbeats last ran';
CREATE INDEX integrations_heartbeats ON integrations (org_id, heartbeat_due_time)
  WHERE heartbeat_interval IS NOT NULL AND NOT heartbeat_missing;
"""


def upgrade() -> None:
    """Five columns. The index holds only the integrations whose heartbeats are awaited."""
    run_script(op, COLUMNS)


def downgrade() -> None:
    """Without them."""
    run_script(
        op,
        """ALTER TABLE integrations DROP COLUMN heartbeat_interval, DROP COLUMN heartbeat_time, DROP COLUMN heartbeat_due_time,
           DROP COLUMN heartbeat_watch_time, DROP COLUMN heartbeat_missing;""",
    )
