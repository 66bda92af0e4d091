"""Text messages, and what is known of an attempt after its provider took it."""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CHANNELS = """
ALTER TABLE contact_methods DROP CONSTRAINT contact_methods_channel, ADD CONSTRAINT contact_methods_channel CHECK
  (channel IN ('email', 'webhook', 'console'{more}));
"""
EVIDENCE = """
ALTER TABLE attempts ADD COLUMN evidence text NOT NULL DEFAULT '',
  ADD COLUMN evidence_time timestamptz,
  ADD COLUMN evidence_code text NOT NULL DEFAULT '',
  ADD CONSTRAINT attempts_evidence CHECK (evidence IN ('', 'accepted', 'failed', 'delivered', 'read', 'answered')),
  ADD CONSTRAINT attempts_evidence_time CHECK ((evidence = '') = (evidence_time IS NULL));
ALTER TABLE notifications ADD COLUMN failed_attempt int NOT NULL DEFAULT 0;
"""
FORGET = """
DELETE FROM notification_rules WHERE contact_method IN (SELECT id FROM contact_methods WHERE channel = 'sms');
DELETE FROM notifications WHERE contact_method IN (SELECT id FROM contact_methods WHERE channel = 'sms');
DELETE FROM contact_methods WHERE channel = 'sms';
ALTER TABLE attempts DROP COLUMN evidence, DROP COLUMN evidence_time, DROP COLUMN evidence_code;
ALTER TABLE notifications DROP COLUMN failed_attempt;
"""


def upgrade() -> None:
    run_script(op, CHANNELS.format(more=", 'sms'"))
    run_script(op, EVIDENCE)


def downgrade() -> None:
    run_script(op, FORGET)
    run_script(op, CHANNELS.format(more=""))
