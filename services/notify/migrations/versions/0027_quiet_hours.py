"""When each user's pages of low urgency wait, and the bundles in which they do.

Revision ID: 0027
Revises: 0026
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE notification_settings ADD COLUMN quiet_hours jsonb;
CREATE TABLE quiet_bundles (
  org_id text NOT NULL,
  user_id text NOT NULL,
  bundle uuid NOT NULL,
  due_time timestamptz NOT NULL,
  CONSTRAINT quiet_bundles_pkey PRIMARY KEY (org_id, user_id)
);
CREATE INDEX quiet_bundles_due ON quiet_bundles (due_time);
CREATE INDEX quiet_bundles_by_bundle ON quiet_bundles (bundle);
"""
BACK = """
UPDATE notifications SET state = 'cancelled' WHERE state = 'bundled' AND page_id IN
  (SELECT page_id FROM bundle_pages JOIN quiet_bundles USING (org_id, bundle));
DROP TABLE quiet_bundles;
ALTER TABLE notification_settings DROP COLUMN quiet_hours;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)
    enable_row_security(op, "quiet_bundles")


def downgrade() -> None:
    run_script(op, BACK)
