"""Text messages that came in, so that one that the provider tells twice acts once.

Revision ID: 0017
Revises: 0016
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# A number names no tenant, so this has none. The notification leads to its own.
SCRIPT = """
CREATE TABLE texts_received (
  sid text NOT NULL,
  action text NOT NULL DEFAULT '',
  notification_id uuid,
  attempt integer NOT NULL DEFAULT 0,
  said text NOT NULL DEFAULT '',
  create_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT texts_received_pkey PRIMARY KEY (sid),
  CONSTRAINT texts_received_action CHECK ((action = '') = (notification_id IS NULL))
);
CREATE INDEX texts_received_oldest ON texts_received (create_time);
"""
UNDO = "DROP TABLE texts_received;"


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, UNDO)
