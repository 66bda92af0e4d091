"""Replies by text message: numbers that are looked up, numbers that said STOP, and how often strangers were answered.

Revision ID: 0014
Revises: 0013
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# A number names no tenant, so `sms_senders` has none.
SCRIPT = """
ALTER TABLE contact_methods ADD COLUMN stop_time timestamptz;
CREATE INDEX contact_methods_by_number ON contact_methods (address) WHERE channel = 'sms' AND delete_time IS NULL;
CREATE TABLE sms_senders (
  number text NOT NULL,
  answers integer NOT NULL DEFAULT 0,
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT sms_senders_pkey PRIMARY KEY (number)
);
CREATE INDEX sms_senders_oldest ON sms_senders (update_time);
"""
UNDO = """
DROP TABLE sms_senders;
DROP INDEX contact_methods_by_number;
ALTER TABLE contact_methods DROP COLUMN stop_time;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, UNDO)
