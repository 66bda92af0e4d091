"""Messages whose receipt does not come: found by their time, each once."""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE notifications ADD COLUMN receipt_settled boolean NOT NULL DEFAULT false;
CREATE INDEX notifications_receipts_due ON notifications (send_time)
  WHERE state = 'sent' AND channel = 'sms' AND NOT receipt_settled;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, "ALTER TABLE notifications DROP COLUMN receipt_settled")
