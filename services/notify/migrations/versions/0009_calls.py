"""Calls, and channels that need no migration of their own."""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# The service knows its channels by name; a list here would only have to be changed with it.
CHANNELS = """
ALTER TABLE contact_methods DROP CONSTRAINT contact_methods_channel, ADD CONSTRAINT contact_methods_channel CHECK
  (channel ~ '^[a-z][a-z0-9_]{0,31}$');
ALTER TABLE contact_methods DROP CONSTRAINT webhook_has_secret, ADD CONSTRAINT webhook_has_secret CHECK
  (CASE WHEN delete_time IS NOT NULL THEN secret IS NULL ELSE channel <> 'webhook' OR secret IS NOT NULL END);
"""
INDEX = """
DROP INDEX notifications_receipts_due;
CREATE INDEX notifications_receipts_due ON notifications (send_time)
  WHERE state = 'sent' AND channel IN ({channels}) AND NOT receipt_settled;
"""
FORGET = """
DELETE FROM notification_rules WHERE contact_method IN
  (SELECT id FROM contact_methods WHERE channel NOT IN ('email', 'webhook', 'console', 'sms'));
DELETE FROM notifications WHERE contact_method IN
  (SELECT id FROM contact_methods WHERE channel NOT IN ('email', 'webhook', 'console', 'sms'));
DELETE FROM contact_methods WHERE channel NOT IN ('email', 'webhook', 'console', 'sms');
ALTER TABLE contact_methods DROP CONSTRAINT contact_methods_channel, ADD CONSTRAINT contact_methods_channel CHECK
  (channel IN ('email', 'webhook', 'console', 'sms'));
ALTER TABLE contact_methods DROP CONSTRAINT webhook_has_secret, ADD CONSTRAINT webhook_has_secret CHECK
  ((channel = 'webhook' AND delete_time IS NULL) = (secret IS NOT NULL));
"""


def upgrade() -> None:
    run_script(op, CHANNELS)
    run_script(op, INDEX.format(channels="'sms', 'voice'"))


def downgrade() -> None:
    run_script(op, INDEX.format(channels="'sms'"))
    run_script(op, FORGET)
